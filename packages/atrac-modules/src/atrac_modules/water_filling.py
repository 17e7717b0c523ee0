"""Water-filling: turns what every BFU wants into word lengths that fit.

One level is taken off what all want, and lies where the bits suffice; a drop that is left over goes to BFUs in turn.
Source: [atracdenc] atrac1_bitalloc.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from atrac_bitstream import tables as t
from atrac_modules.straight_through import hard_forward_soft_backward

_SHIFT_START, _SHIFT_LOW, _SHIFT_HIGH = 3.0, -3.0, 15.0
_SHIFT_RANGE: Final = 0.1
_SPARE_BITS: Final = 110
"""An allocation that leaves fewer bits than this is good enough."""
_WORD_LENGTH_MAX: Final = 16
_FRACTION: Final = 24
NEVER: Final = 1.5
"""Turns from here on never come."""
_ONE: Final = 1 << _FRACTION
"""One bit, in the fixed-point numbers of the bisection."""


def carries(n_bfu: Tensor) -> Tensor:
    """Tell which of the 52 BFUs are carried. Shape: [*] -> bool [*, 52]."""
    return torch.arange(t.N_BFU_MAX, device=n_bfu.device) < n_bfu[..., None]


def water_fill(
    wanted: Tensor, audible: Tensor, turn: Tensor, audibility: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Give sound units that want so many bits per value what fits.

    Backward, the word length of each BFU that gets something follows wanted minus its mean over those BFUs, weighted by
    their size: the level gives in when the bits do not fit. A BFU's turn counts as something that it wants less. Along
    audibility, the word length of a BFU (at least 1) is multiplied by sigmoid(audibility), from 0 for inaudible BFUs to
    its own for audible ones.

    Args:
        wanted: word length before the shift.
        audible: which BFUs want anything at all.
        turn: when a BFU gets a spare bit, the lowest first; from `NEVER` on, never.
        audibility: what decided over `audible` by its sign, if that is to be learned.

    Shape:  wanted, audible, audibility [*, 52], turn [52] -> n_bfu [*], idwl [*, 52]
    Dtype:  float64 (what is wanted often lies just above or below a whole number of bits)
    """
    n_bfu, idwl = allocate_by_turn(wanted.detach().where(audible, -torch.inf), turn.detach())
    if torch.is_grad_enabled() and turn.requires_grad:
        wanted = wanted - turn
    return n_bfu, follow(wanted, audible, n_bfu, idwl, audibility)


def follow(wanted: Tensor, audible: Tensor, n_bfu: Tensor, idwl: Tensor, audibility: Tensor | None = None) -> Tensor:
    """Return word lengths with the slope that `water_fill` describes, however they were found."""
    if not wanted.requires_grad and (audibility is None or not audibility.requires_grad):
        return idwl
    carried = carries(n_bfu)
    weight = (audible & carried) * torch.as_tensor(t.BFU_SIZES, device=wanted.device)
    mean = (wanted * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp_min(1)
    soft = torch.where(weight > 0, wanted - mean, 0.0)
    if audibility is not None:
        soft = soft + torch.sigmoid(audibility.to(wanted.dtype)) * idwl.clamp_min(1) * carried
    return hard_forward_soft_backward(idwl, soft)


@torch.library.custom_op("atrac_modules::allocate_by_turn", mutates_args=())
def allocate_by_turn(wanted: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Call `allocate` with BFUs by turn; one operation to `torch.compile`, which need not follow the search.

    Shape: wanted [*, 52], turn [52] -> n_bfu [*], idwl [*, 52], in the dtype of wanted
    """
    n_bfu, idwl = allocate(wanted, by_turn(turn))
    return n_bfu.to(wanted.dtype), idwl.to(wanted.dtype)


@allocate_by_turn.register_fake
def _(wanted: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    return wanted.new_empty(wanted.shape[:-1]), torch.empty_like(wanted)


def by_turn(turn: Tensor) -> list[int]:
    """Return the BFUs whose turn comes, in order. Shape: turn [52]."""
    return [bfu for bfu in turn.argsort(stable=True).tolist() if turn[bfu] < NEVER]


def allocate(wanted: Tensor, boosted: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Find shift, number of BFUs and boosts for sound units that want so many bits per value.

    Word length = trunc(wanted - shift), 0 below 2, with the shift bisected per sound unit until the bits fit and at
    most 110 are left. When the highest BFUs stay empty, one step fewer is carried and the bisection starts again. What
    is left over goes one bit at a time to the boosted BFUs.

    Args:
        wanted: word length before the shift; minus infinity for none.
        boosted: BFUs that spare bits go to, in this order.

    Shape:  [*, 52] -> n_bfu [*], idwl [*, 52]
    Dtype:  int64
    """
    leading = wanted.shape[:-1]
    # Whole numbers of 2 ** -24 bits: exact, and faster.
    wanted = (wanted.reshape(-1, t.N_BFU_MAX).clamp(-40, 40) * _ONE).floor().to(torch.int32)
    words = torch.zeros_like(wanted)
    n_bfu = torch.zeros_like(wanted[:, 0])
    spare = torch.zeros_like(wanted[:, 0])
    unit = torch.arange(len(wanted), device=wanted.device)  # sound units still undecided
    for fewer, amount in zip((0, *t.BFU_AMOUNTS[:-1])[::-1], t.BFU_AMOUNTS[::-1], strict=True):
        empty = _stays_empty(wanted[unit, :amount], fewer, t.value_bits(amount))
        candidates, unit = unit[~empty], unit[empty]
        if not len(candidates):
            continue
        tried, left = _bisect(wanted[candidates, :amount], t.value_bits(amount))
        filled = tried[:, fewer:].any(-1) | (fewer == 0)
        done = candidates[filled]
        words[done, :amount], n_bfu[done], spare[done] = tried[filled], amount, left[filled]
        unit = torch.cat([unit, candidates[~filled]])
    if boosted:
        _boost(words, spare, n_bfu, boosted)
    idwl = (words - 1).clamp_min(0)
    return n_bfu.reshape(leading).long(), idwl.reshape(*leading, t.N_BFU_MAX).long()


def _words(wanted: Tensor, shift: Tensor, available: int) -> tuple[Tensor, Tensor]:
    """Return the word lengths that a shift [n, 1] gives [n, amount], and the bits left over [n, 1], int32."""
    sizes = torch.as_tensor(t.BFU_SIZES[: wanted.shape[1]], device=wanted.device).float()
    words = (wanted - shift) >> _FRACTION
    words = (words * (words >= 2)).clamp_max(_WORD_LENGTH_MAX)
    return words, available - (words.float() @ sizes).int()[:, None]


def _stays_empty(wanted: Tensor, fewer: int, available: int) -> Tensor:
    """Tell for certain of which sound units the BFUs from `fewer` on will get nothing [n].

    The largest shift that would give them something does not fit, and larger ones give less.
    """
    if fewer == 0:
        return torch.zeros(len(wanted), dtype=torch.bool, device=wanted.device)
    shift = wanted[:, fewer:].amax(1, keepdim=True) - 2 * _ONE
    return (_words(wanted, shift, available)[1] < 0)[:, 0]


def _bisect(wanted: Tensor, available: int) -> tuple[Tensor, Tensor]:
    """Find the shift of each sound unit; return its word lengths [n, amount] and the bits left over [n], int32."""
    low = torch.full_like(wanted[:, :1], int(_SHIFT_LOW * _ONE))
    high = torch.full_like(low, int(_SHIFT_HIGH * _ONE))
    shift = torch.full_like(low, int(_SHIFT_START * _ONE))
    while True:
        words, left = _words(wanted, shift, available)
        over = left < 0
        settled = ~over & ((left <= _SPARE_BITS) | (high - low < int(_SHIFT_RANGE * _ONE)))
        if settled.all():
            return words, left[:, 0]
        low, high = torch.where(over, shift, low), torch.where(over | settled, high, shift)
        # A spectrum that no shift in the range makes fit, which the reference codec would ponder for ever.
        high = torch.where(over & (high - shift <= 1), high + int(_SHIFT_HIGH * _ONE), high)
        shift = shift + torch.where(over, (high - shift) >> 1, -((shift - low) >> 1)) * ~settled


def _boost(words: Tensor, spare: Tensor, n_bfu: Tensor, order: Sequence[int]) -> None:
    """Give spare bits away in rounds: one more bit per value, two where there was none."""
    boosted = torch.tensor(order, device=words.device)
    carried = boosted < n_bfu[:, None]
    columns = words[:, boosted].masked_fill(~carried, _WORD_LENGTH_MAX)  # full, so that they are passed over
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
