"""Water-filling: the reference codec's way to make desired word lengths fit the bit budget.

Subtract one offset, `shift`, from all desired word lengths so that they fit. Bits that remain go one at a time to a
list of BFUs. Source: [atracdenc] atrac1_bitalloc.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from atrac_bitstream import tables as t
from atrac_modules.bfu import carries
from atrac_modules.operation import operation
from atrac_modules.straight_through import hard_forward_soft_backward

_SHIFT_START, _SHIFT_LOW, _SHIFT_HIGH = 3.0, -3.0, 15.0
_SHIFT_RANGE: Final = 0.1
"""The bisection ends when the shift is known to this many bits."""
_SPARE_BITS: Final = 110
"""The bisection also ends when at most this many bits remain."""
_WORD_LENGTH_MAX: Final = 16
_FRACTION: Final = 24
_ONE: Final = 1 << _FRACTION
"""One bit in the fixed-point numbers of the bisection."""
RANK_LIMIT: Final = 1.5
"""BFUs of this rank or more receive no spare bits."""


def water_fill(
    desired: Tensor, audible: Tensor, rank: Tensor, audibility: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fit desired word lengths into each sound unit, with gradients.

    Backward, the word length of each audible carried BFU follows its desired word length minus the mean over those
    BFUs, weighted by their size: the budget is fixed, so that more for one is less for the others. A higher rank has
    the slope of a shorter desired word length. Along `audibility`, the slope of a word length (at least 1) is that of
    its product with sigmoid(audibility).

    Args:
        desired: word lengths before the shift.
        audible: BFUs that may receive bits.
        rank: order in which BFUs receive spare bits, lowest first, none from `RANK_LIMIT` on.
        audibility: number whose sign has decided `audible`, to learn it.

    Shape:  desired, audible, audibility [*, 52], rank [52] -> n_bfu [*], idwl [*, 52]
    Dtype:  float64 (desired word lengths often lie just above or below a whole number)
    """
    n_bfu, idwl = allocate_by_rank(desired.detach().where(audible, -torch.inf), rank.detach())
    if torch.is_grad_enabled() and rank.requires_grad:
        desired = desired - rank
    return n_bfu, with_slope(desired, audible, n_bfu, idwl, audibility)


def with_slope(
    desired: Tensor, audible: Tensor, n_bfu: Tensor, idwl: Tensor, audibility: Tensor | None = None
) -> Tensor:
    """Return `idwl` with the slopes that `water_fill` describes."""
    if not desired.requires_grad and (audibility is None or not audibility.requires_grad):
        return idwl
    carried = carries(n_bfu)
    weight = (audible & carried) * torch.as_tensor(t.BFU_SIZES, device=desired.device)
    mean = (desired * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp_min(1)
    soft = torch.where(weight > 0, desired - mean, 0.0)
    if audibility is not None:
        soft = soft + torch.sigmoid(audibility.to(desired.dtype)) * idwl.clamp_min(1) * carried
    return hard_forward_soft_backward(idwl, soft)


def _shapes(desired: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    return desired.new_empty(desired.shape[:-1]), torch.empty_like(desired)


@operation(_shapes)
def allocate_by_rank(desired: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Call `allocate` with the BFUs in the order of their ranks; a single operation to `torch.compile`.

    Shape: desired [*, 52], rank [52] -> n_bfu [*], idwl [*, 52], in the dtype of desired
    """
    n_bfu, idwl = allocate(desired, ranked_bfus(rank))
    return n_bfu.to(desired.dtype), idwl.to(desired.dtype)


def ranked_bfus(rank: Tensor) -> list[int]:
    """Return the BFUs that receive spare bits, in order. Shape: rank [52]."""
    return [bfu for bfu in rank.argsort(stable=True).tolist() if rank[bfu] < RANK_LIMIT]


def allocate(desired: Tensor, boosted: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Find the word lengths and the number of BFUs of each sound unit.

    Word length = trunc(desired - shift), 0 below 2, with the shift bisected for each sound unit until the bits fit and
    at most 110 remain. If the highest BFUs stay empty, the bisection starts again with the next smaller number of BFUs.
    Remaining bits go one at a time to the boosted BFUs.

    Args:
        desired: word lengths before the shift; minus infinity for none.
        boosted: BFUs that receive spare bits, in this order.

    Shape:  [*, 52] -> n_bfu [*], idwl [*, 52]
    Dtype:  int64
    """
    leading = desired.shape[:-1]
    # Whole numbers of 2 ** -24 bits: exact, and faster.
    desired = (desired.reshape(-1, t.N_BFU_MAX).clamp(-40, 40) * _ONE).floor().to(torch.int32)
    words = torch.zeros_like(desired)
    n_bfu = torch.zeros_like(desired[:, 0])
    spare = torch.zeros_like(desired[:, 0])
    unit = torch.arange(len(desired), device=desired.device)  # sound units still undecided
    for fewer, amount in zip((0, *t.BFU_AMOUNTS[:-1])[::-1], t.BFU_AMOUNTS[::-1], strict=True):
        empty = _stays_empty(desired[unit, :amount], fewer, t.value_bits(amount))
        candidates, unit = unit[~empty], unit[empty]
        if not len(candidates):
            continue
        tried, left = _bisect(desired[candidates, :amount], t.value_bits(amount))
        filled = tried[:, fewer:].any(-1) | (fewer == 0)
        done = candidates[filled]
        words[done, :amount], n_bfu[done], spare[done] = tried[filled], amount, left[filled]
        unit = torch.cat([unit, candidates[~filled]])
    if boosted:
        _boost(words, spare, n_bfu, boosted)
    idwl = (words - 1).clamp_min(0)
    return n_bfu.reshape(leading).long(), idwl.reshape(*leading, t.N_BFU_MAX).long()


def _words(desired: Tensor, shift: Tensor, available: int) -> tuple[Tensor, Tensor]:
    """Return the word lengths after a shift [n, 1], [n, amount], and the bits that remain [n, 1], int32."""
    sizes = torch.as_tensor(t.BFU_SIZES[: desired.shape[1]], device=desired.device).float()
    words = (desired - shift) >> _FRACTION
    words = (words * (words >= 2)).clamp_max(_WORD_LENGTH_MAX)
    return words, available - (words.float() @ sizes).int()[:, None]


def _stays_empty(desired: Tensor, fewer: int, available: int) -> Tensor:
    """Return of which sound units the BFUs from `fewer` on certainly receive nothing [n].

    The largest shift that gives one of them bits does not fit, and a larger one gives less.
    """
    if fewer == 0:
        return torch.zeros(len(desired), dtype=torch.bool, device=desired.device)
    shift = desired[:, fewer:].amax(1, keepdim=True) - 2 * _ONE
    return (_words(desired, shift, available)[1] < 0)[:, 0]


def _bisect(desired: Tensor, available: int) -> tuple[Tensor, Tensor]:
    """Find the shift of each sound unit; return its word lengths [n, amount] and the bits that remain [n], int32."""
    low = torch.full_like(desired[:, :1], int(_SHIFT_LOW * _ONE))
    high = torch.full_like(low, int(_SHIFT_HIGH * _ONE))
    shift = torch.full_like(low, int(_SHIFT_START * _ONE))
    while True:
        words, left = _words(desired, shift, available)
        over = left < 0
        settled = ~over & ((left <= _SPARE_BITS) | (high - low < int(_SHIFT_RANGE * _ONE)))
        if settled.all():
            return words, left[:, 0]
        low, high = torch.where(over, shift, low), torch.where(over | settled, high, shift)
        # If no shift in the range fits, widen it; the reference codec would never end.
        high = torch.where(over & (high - shift <= 1), high + int(_SHIFT_HIGH * _ONE), high)
        shift = shift + torch.where(over, (high - shift) >> 1, -((shift - low) >> 1)) * ~settled


def _boost(words: Tensor, spare: Tensor, n_bfu: Tensor, order: Sequence[int]) -> None:
    """Hand out spare bits in rounds: one more bit for each value, or two where there was none."""
    boosted = torch.tensor(order, device=words.device)
    carried = boosted < n_bfu[:, None]
    columns = words[:, boosted].masked_fill(~carried, _WORD_LENGTH_MAX)  # full, and so skipped
    active = torch.arange(len(words), device=words.device)
    while len(active):
        before = left = spare[active]
        given = []
        for bfu, word in zip(order, columns[active].unbind(1), strict=True):
            size = int(t.BFU_SIZES[bfu])
            more = 1 + (word == 0).int()
            more = more * ((more * size <= left) & (word < _WORD_LENGTH_MAX))
            left = left - more * size
            given.append(word + more)
        columns[active], spare[active] = torch.stack(given, 1), left
        active = active[left < before]
    words[:, boosted] = columns * carried
