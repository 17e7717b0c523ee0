"""Rate-distortion search: the word lengths, scale factors and number of BFUs of the least weighted error in the budget.

    minimise  D = sum over BFUs of weight x squared error
    subject to  R = bits of all values + 10 n_bfu  <=  budget

By a Lagrangian: for a multiplier λ, each BFU minimises distortion + λ · rate over its candidates, and the number of
BFUs is the one with the least total. A larger λ gives a smaller rate; the least λ whose rate fits is found by
bracketing and interpolation. All codes have a fixed length, so that the result is optimal but for the bits that remain;
these are spent where they lower the distortion most for each bit.

It is done twice: first with the distortion by a formula, which gives λ and word lengths close to the solution, then
with the distortion measured by quantizing (`distortion.py`) with word lengths around those and several scale factors.
Tensors have the sound units last, so that each step works on all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout
from atrac_modules.distortion import Candidates, Prepared, measure, per_bfu, prepare

EFFORTS: Final = {"fast": (0, 0), "default": (1, 1), "best": (2, 2)}
"""How many word lengths below and above that of the formula are measured. The weighted error is 0.5, 0.02 and less than
0.001 dB above the least (music, mean; measured)."""
_LEAST_IMPORTANCE: Final = -80.0
"""log2 of the least importance relative to the largest, so that float32 holds all of them."""
_BUDGET: Final = t.value_bits(0)
_SIDE_BITS: Final = t.IDWL_BITS + t.IDSF_BITS
"""Bits of each carried BFU besides its values."""
_INTERPOLATIONS: Final = 4
"""Steps of interpolation between two bracketing multipliers; the bits that remain are spent one by one anyway."""
_LOWEST: Final = 30.0
"""log2 of how far below the guess a multiplier is sought. If all fits even there, nothing more is worth its bits."""
_STEP_ERROR: Final = 1 / 12
"""Mean squared error of rounding, in squared steps."""


@dataclass(frozen=True)
class Solution:
    """Result of a search.

    Args:
        n_bfu: number of BFUs.
        idwl: word length index.
        offset: change of the scale factor index.
        lam: the multiplier λ, in distortion per bit.

    Shape: n_bfu, lam [N], idwl, offset [52, N]
    """

    n_bfu: Tensor
    idwl: Tensor
    offset: Tensor
    lam: Tensor


def check_effort(effort: str) -> str:
    """Return the effort. Raises: ValueError: it is not in `EFFORTS`."""
    if effort not in EFFORTS:
        raise ValueError(f"effort {effort!r}, allowed {', '.join(EFFORTS)}")
    return effort


@torch.library.custom_op("atrac_modules::allocate_by_importance", mutates_args=())
def allocate_by_importance(
    spectrum: Tensor, idsf: Tensor, bsm: Tensor, importance: Tensor, effort: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Search with importances, log2 of the weight of a squared error; a single operation to `torch.compile`.

    Shape: spectrum [*, 512], idsf, importance [*, 52], bsm [*, 3] -> n_bfu [*], idwl, offset of idsf [*, 52]
    """
    weight = (importance - importance.amax(-1, keepdim=True)).clamp_min(_LEAST_IMPORTANCE).exp2()
    spectrum, index, bsm, weight = (x.reshape(-1, x.shape[-1]) for x in (spectrum, idsf, bsm, weight))
    found = search(prepare(spectrum, index, bsm, weight, BfuLayout().to(spectrum.device)), EFFORTS[effort])
    idwl, offset = (x.T.reshape(idsf.shape).to(idsf.dtype).contiguous() for x in (found.idwl, found.offset))
    return found.n_bfu.reshape(idsf.shape[:-1]).to(idsf.dtype), idwl, offset


@allocate_by_importance.register_fake
def _(spectrum: Tensor, idsf: Tensor, bsm: Tensor, importance: Tensor, effort: str) -> tuple[Tensor, Tensor, Tensor]:
    return idsf.new_empty(idsf.shape[:-1]), torch.empty_like(idsf), torch.empty_like(idsf)


def search(prepared: Prepared, reach: tuple[int, int]) -> Solution:
    """Find the number of BFUs, word lengths and scale factors.

    Args:
        reach: how many word lengths below and above that of the formula are measured.
    """
    first = estimate(prepared)
    return solve(measure(prepared, first.idwl, reach), first.lam)


def estimate(prepared: Prepared) -> Solution:
    """Search with the distortion by a formula: size / 12 of a squared step, or without bits the energy."""
    weight = prepared.weight
    sizes = per_bfu(t.BFU_SIZES, weight)
    dropped = weight * prepared.energy
    bounds = _DualBounds(dropped)

    def minimise(lam: Tensor, n_bfu: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return word length indices [52, N] and rate [N] for a multiplier [N]."""
        # At the best word length, the slope of the distortion along the rate is -λ.
        steps = (weight * (2 * math.log(2) * _STEP_ERROR) / lam).sqrt()
        word = (steps + 1).log2().add_(1).round_().clamp_(2, t.WORD_LENGTHS[-1])
        rate = word * sizes
        lagrangian = weight * sizes * _STEP_ERROR / ((word - 1).exp2_() - 1).square_() + rate * lam
        n_bfu = bounds.least(torch.minimum(lagrangian, dropped), lam) if n_bfu is None else n_bfu
        taken = (lagrangian < dropped) & _carries(n_bfu)
        return (word - 1).long() * taken, (rate * taken).sum(0) + _SIDE_BITS * n_bfu

    loud = (dropped / sizes).clamp_min(2.0**-100)
    guess = torch.maximum(loud, loud.amax(0) * 2.0**-40).log2().mean(0) - 6
    lam = _find_log2_lam(lambda log2_lam: minimise(log2_lam.exp2())[1], guess, active=dropped.sum(0) > 0).exp2()
    n_bfu = bounds.best()
    return Solution(n_bfu, minimise(lam, n_bfu)[0], torch.zeros_like(n_bfu), lam)


def solve(candidates: Candidates, lam: Tensor) -> Solution:
    """Choose the number of BFUs and a candidate for each.

    Args:
        lam: multiplier to start from [N].
    """
    log2_lam, n_bfu = _fit_any_number(candidates, lam.log2())
    log2_lam = _find_log2_lam(lambda x: _rate(candidates, x, lambda *_: n_bfu), log2_lam, _active(candidates))
    _, rate = minimise_lagrangian(candidates, log2_lam.exp2())
    # The rate tells the candidate: each has more bits than the one before.
    candidate = (candidates.rate[1:] <= rate).sum(0) * _carries(n_bfu)
    candidate = _spend(candidates, candidate, n_bfu, _BUDGET - _total_rate(rate, n_bfu))
    return Solution(n_bfu, _pick(candidates.idwl, candidate), _pick(candidates.offset, candidate), log2_lam.exp2())


def fit_multiplier(candidates: Candidates, guess: Tensor) -> Tensor:
    """Return the least multiplier found whose rate fits, with the number of BFUs of the least total [N]."""
    return _fit_any_number(candidates, guess.log2())[0].exp2()


def minimise_lagrangian(candidates: Candidates, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise distortion + λ · rate for each BFU.

    Returns:
        The minimum, and the rate there. Shape: lam [N] -> [52, N], [52, N]
    """
    least, least_rate = candidates.distortion[0], candidates.rate[0]
    for distortion, rate in zip(candidates.distortion[1:], candidates.rate[1:], strict=True):
        lagrangian = torch.addcmul(distortion, rate, lam)
        least_rate = torch.where(lagrangian < least, rate, least_rate)
        least = torch.minimum(lagrangian, least)
    return least, least_rate


def _fit_any_number(candidates: Candidates, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Return log2 of the multiplier that fits with any number of BFUs, and the best number [N]."""
    bounds = _DualBounds(candidates.distortion[0])
    log2_lam = _find_log2_lam(lambda x: _rate(candidates, x, bounds.least), guess, _active(candidates))
    return log2_lam, bounds.best()


def _rate(candidates: Candidates, log2_lam: Tensor, number: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the rate [N] at a multiplier, with the number of BFUs that `number` makes of the minima and λ."""
    lam = log2_lam.exp2()
    lagrangian, rate = minimise_lagrangian(candidates, lam)
    return _total_rate(rate, number(lagrangian, lam))


def _total_rate(rate: Tensor, n_bfu: Tensor) -> Tensor:
    """Add up the bits of values and the side bits of each carried BFU. Shape: [52, N], [N] -> [N]."""
    return (rate * _carries(n_bfu)).sum(0) + _SIDE_BITS * n_bfu


def _active(candidates: Candidates) -> Tensor:
    """Return which sound units have any distortion to lower [N]."""
    return candidates.distortion[0].sum(0) > 0


def _pick(table: Tensor, candidate: Tensor) -> Tensor:
    return table.gather(0, candidate[None])[0]


def _carries(n_bfu: Tensor) -> Tensor:
    return torch.arange(t.N_BFU_MAX, device=n_bfu.device)[:, None] < n_bfu


class _DualBounds:
    """Lower bounds of the distortion for each number of BFUs, from all multipliers that were tried.

    By weak duality, for any λ, the minimum of D + λ · R less λ · budget is at most the distortion of any choice that
    fits. Each number of BFUs keeps its highest bound; the number whose highest bound is least is best. A single λ is
    not enough: often another group of BFUs begins to pay where the bits for it are lacking.

    Args:
        dropped: distortion of each BFU without bits [52, N].
    """

    def __init__(self, dropped: Tensor) -> None:
        self._amounts = torch.as_tensor(t.BFU_AMOUNTS, device=dropped.device)
        self._budgets = (_BUDGET - _SIDE_BITS * self._amounts).to(dropped.dtype)[:, None]
        self._carried = _carries(self._amounts).T.to(dropped.dtype)
        self._left_out = (1 - self._carried) @ dropped
        self._bounds = torch.full_like(self._left_out, -torch.inf)

    def least(self, lagrangian: Tensor, lam: Tensor) -> Tensor:
        """Add the bounds at a multiplier [N]; return the number of BFUs with the least one there [N].

        Args:
            lagrangian: minimum of distortion + λ · rate of each BFU [52, N].
        """
        bounds = self._carried @ lagrangian + self._left_out - self._budgets * lam
        self._bounds = torch.maximum(self._bounds, bounds)
        return self._amounts[bounds.argmin(0)]

    def best(self) -> Tensor:
        """Return the number of BFUs whose highest bound is least [N]."""
        return self._amounts[self._bounds.argmin(0)]


def _find_log2_lam(rate: Callable[[Tensor], Tensor], guess: Tensor, active: Tensor) -> Tensor:
    """Find log2 of a multiplier whose rate fits the budget with few bits left [N].

    Args:
        rate: returns the rate at log2 of a multiplier; it falls as the multiplier rises.
        guess: log2 of the multiplier to start from.
        active: which sound units have any distortion to lower.
    """
    low, high = guess - 0.5, guess + 0.5
    over, spare = rate(low) - _BUDGET, _BUDGET - rate(high)
    step = 0.5
    while (short := spare < 0).any():
        step *= 2
        low, over = torch.where(short, high, low), torch.where(short, -spare, over)
        high = torch.where(short, high + step, high)
        spare = _BUDGET - rate(high)
    step = 0.5
    while (fits := (over <= 0) & active).any() and step < _LOWEST:
        step *= 2
        high, spare = torch.where(fits, low, high), torch.where(fits, -over, spare)
        low = torch.where(fits, low - step, low)
        over = rate(low) - _BUDGET
    for _ in range(_INTERPOLATIONS):  # between the two, the rate is nearly linear
        share = (over / (over + spare).clamp_min(1)).clamp(0.1, 0.9)
        middle = low + share * (high - low)
        left = _BUDGET - rate(middle)
        low, high = torch.where(left < 0, middle, low), torch.where(left < 0, high, middle)
        over, spare = torch.where(left < 0, -left, over), torch.where(left < 0, spare, left)
    return high


def _spend(candidates: Candidates, candidate: Tensor, n_bfu: Tensor, spare: Tensor) -> Tensor:
    """Spend spare bits [N], while they fit, on the steps that lower the distortion most for each bit."""
    distortion, rate = candidates.distortion, candidates.rate
    bfu = torch.arange(t.N_BFU_MAX, device=distortion.device)[:, None]
    carried = _carries(n_bfu)
    # Bits of the step from each candidate to the next, and how much it lowers the distortion for each bit.
    more = torch.cat([rate[1:] - rate[:-1], torch.full_like(rate[:1], torch.inf)])
    slope = torch.cat([(distortion[:-1] - distortion[1:]) / more[:-1].clamp_min(1), torch.zeros_like(distortion[:1])])
    while True:
        bits, gain = _pick(more, candidate), _pick(slope, candidate)
        best, which = torch.where(carried & (bits <= spare), gain, 0.0).max(0)
        chosen = (bfu == which) & (best > 0)
        if not chosen.any():
            return candidate
        spare = spare - (bits * chosen).sum(0)
        candidate = candidate + chosen
