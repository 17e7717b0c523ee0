"""Rate-distortion search: the word lengths, scale factors and number of BFUs of the least weighted error in the budget.

    minimise  D = sum over BFUs of weight x squared error
    subject to  R = bits of all values + 10 n_bfu  <=  budget

By a Lagrangian: for a multiplier λ, each BFU minimises distortion + λ · rate over its candidates, and the number of
BFUs is the one with the least total. A larger λ gives a smaller rate; the least λ whose rate fits is found by
bracketing and interpolation. All codes have a fixed length, so that the result is optimal but for the bits that remain;
these are spent where they lower the distortion most for each bit.

On the CPU, this is the kernel `atrac_runtime.kernels.search`; what is here does the same on any device. Tensors have
the sound units last, so that each step works on all of them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout
from atrac_modules.distortion import Candidates, Prepared, measure, per_bfu, prepare
from atrac_modules.operation import float_rows, integer_rows, operation
from atrac_runtime.kernels.distortion import LEAST_IMPORTANCE
from atrac_runtime.kernels.search import BUDGET, INTERPOLATIONS, LOWEST, SIDE_BITS
from atrac_runtime.kernels.search import allocate_by_importance as search_kernel

_RATES: Final = (t.WORD_LENGTHS[:, None] * t.BFU_SIZES)[..., None]
"""Bits of the values of each BFU, by word length index [16, 52, 1]."""


@dataclass(frozen=True)
class Solution:
    """Result of a search.

    Args:
        n_bfu: number of BFUs.
        idwl: word length index.
        offset: change of the scale factor index.

    Shape: n_bfu [N], idwl, offset [52, N]
    """

    n_bfu: Tensor
    idwl: Tensor
    offset: Tensor


def _shapes(spectrum: Tensor, idsf: Tensor, bsm: Tensor, importance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return idsf.new_empty(idsf.shape[:-1]), torch.empty_like(idsf), torch.empty_like(idsf)


def _by_kernel(spectrum: Tensor, idsf: Tensor, bsm: Tensor, importance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found = search_kernel(float_rows(spectrum), integer_rows(idsf), integer_rows(bsm), float_rows(importance))
    n_bfu, idwl, offset = (torch.from_numpy(x).to(idsf.dtype) for x in found)
    return n_bfu.view(idsf.shape[:-1]), idwl.view(idsf.shape), offset.view(idsf.shape)


@operation(_shapes, on_cpu=_by_kernel)
def allocate_by_importance(
    spectrum: Tensor, idsf: Tensor, bsm: Tensor, importance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Search with importances, log2 of the weight of a squared error.

    Shape: spectrum [*, 512], idsf, importance [*, 52], bsm [*, 3] -> n_bfu [*], idwl, offset of idsf [*, 52]
    """
    weight = (importance - importance.amax(-1, keepdim=True)).clamp_min(LEAST_IMPORTANCE).exp2()
    spectrum, index, bsm, weight = (x.reshape(-1, x.shape[-1]) for x in (spectrum, idsf, bsm, weight))
    found = search(prepare(spectrum, index, bsm, weight, BfuLayout().to(spectrum.device)))
    idwl, offset = (x.T.reshape(idsf.shape).to(idsf.dtype).contiguous() for x in (found.idwl, found.offset))
    return found.n_bfu.reshape(idsf.shape[:-1]).to(idsf.dtype), idwl, offset


def search(prepared: Prepared) -> Solution:
    """Find the number of BFUs, word lengths and scale factors."""
    return solve(measure(prepared))


def solve(candidates: Candidates) -> Solution:
    """Choose the number of BFUs and the word length of each."""
    distortion = candidates.distortion
    log2_lam, n_bfu = fit_multiplier(distortion, guess_multiplier(distortion))
    log2_lam = _find_log2_lam(lambda x: _rate(distortion, x, lambda *_: n_bfu), log2_lam, _active(distortion))
    _, rate = minimise_lagrangian(distortion, log2_lam.exp2())
    # The rate tells the word length: each has more bits than the one before.
    idwl = (_rates(distortion)[1:] <= rate).sum(0) * _carries(n_bfu)
    idwl = _spend(distortion, idwl, n_bfu, BUDGET - _total_rate(rate, n_bfu))
    return Solution(n_bfu, idwl, _pick(candidates.offset, idwl))


def guess_multiplier(distortion: Tensor) -> Tensor:
    """Guess log2 of the multiplier from the mean level of the BFUs [N]."""
    loud = (distortion[0] / per_bfu(t.BFU_SIZES, distortion)).clamp_min(2.0**-100)
    return torch.maximum(loud, loud.amax(0) * 2.0**-40).log2().mean(0) - 6


def fit_multiplier(distortion: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Return log2 of the multiplier that fits with any number of BFUs, and the best number [N]."""
    bounds = _DualBounds(distortion[0])
    log2_lam = _find_log2_lam(lambda x: _rate(distortion, x, bounds.least), guess, _active(distortion))
    return log2_lam, bounds.best()


def minimise_lagrangian(distortion: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise distortion + λ · rate for each BFU.

    Returns:
        The minimum, and the rate there. Shape: distortion [16, 52, N], lam [N] -> [52, N], [52, N]
    """
    least, least_rate = distortion[0], torch.zeros_like(distortion[0])
    for own, rate in zip(distortion[1:], _rates(distortion)[1:], strict=True):
        lagrangian = own + rate * lam
        least_rate = torch.where(lagrangian < least, rate, least_rate)
        least = torch.minimum(lagrangian, least)
    return least, least_rate


def _rates(like: Tensor) -> Tensor:
    return torch.as_tensor(_RATES, dtype=like.dtype, device=like.device)


def _rate(distortion: Tensor, log2_lam: Tensor, number: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the rate [N] at a multiplier, with the number of BFUs that `number` makes of the minima and λ."""
    lam = log2_lam.exp2()
    lagrangian, rate = minimise_lagrangian(distortion, lam)
    return _total_rate(rate, number(lagrangian, lam))


def _total_rate(rate: Tensor, n_bfu: Tensor) -> Tensor:
    """Add up the bits of values and the side bits of each carried BFU. Shape: [52, N], [N] -> [N]."""
    return (rate * _carries(n_bfu)).sum(0) + SIDE_BITS * n_bfu


def _active(distortion: Tensor) -> Tensor:
    """Return which sound units have any distortion to lower [N]."""
    return distortion[0].amax(0) > 0


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
        self._budgets = (BUDGET - SIDE_BITS * self._amounts).to(dropped.dtype)[:, None]
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
    over, spare = rate(low) - BUDGET, BUDGET - rate(high)
    step = 0.5
    while (short := spare < 0).any():
        step *= 2
        low, over = torch.where(short, high, low), torch.where(short, -spare, over)
        high = torch.where(short, high + step, high)
        spare = BUDGET - rate(high)
    step = 0.5
    while (fits := (over <= 0) & active).any() and step < LOWEST:
        step *= 2
        high, spare = torch.where(fits, low, high), torch.where(fits, -over, spare)
        low = torch.where(fits, low - step, low)
        over = rate(low) - BUDGET
    for _ in range(INTERPOLATIONS):  # between the two, the rate is nearly linear
        share = (over / (over + spare).clamp_min(1)).clamp(0.1, 0.9)
        middle = low + share * (high - low)
        left = BUDGET - rate(middle)
        low, high = torch.where(left < 0, middle, low), torch.where(left < 0, high, middle)
        over, spare = torch.where(left < 0, -left, over), torch.where(left < 0, spare, left)
    return high


def _spend(distortion: Tensor, idwl: Tensor, n_bfu: Tensor, spare: Tensor) -> Tensor:
    """Spend spare bits [N], while they fit, on the steps that lower the distortion most for each bit."""
    rate, bfu = _rates(distortion), torch.arange(t.N_BFU_MAX, device=distortion.device)[:, None]
    carried = _carries(n_bfu)
    # Bits of the step from each word length to the next, and how much it lowers the distortion for each bit.
    more = torch.cat([rate[1:] - rate[:-1], torch.full_like(rate[:1], torch.inf)]).expand_as(distortion)
    slope = torch.cat([(distortion[:-1] - distortion[1:]) / more[:-1], torch.zeros_like(distortion[:1])])
    while True:
        bits, gain = _pick(more, idwl), _pick(slope, idwl)
        best, which = torch.where(carried & (bits <= spare), gain, 0.0).max(0)
        chosen = (bfu == which) & (best > 0)
        if not chosen.any():
            return idwl
        spare = spare - (bits * chosen).sum(0)
        idwl = idwl + chosen
