"""Rate-distortion search: the word lengths and scale factors that leave the least weighted error in the bits there are.

    minimise  sum over BFUs of weight x error,  where  sum of the bits of all values + 10 n_bfu  <=  budget

At a price of a bit, every BFU takes what costs it least in weighted error and bits, and so many BFUs are carried as pay
for their scale factors and word lengths. The lowest price at which all fits is looked for: all codes have a fixed
length, so that this is the best choice but for the bits of one last step, which are given away one by one. It is done
twice: with errors as a formula says, which gives a price and word lengths that are about right, and then with errors
that are measured, by quantizing each BFU in word lengths around those and by several scale factors.

Tensors here have the sound units last, so that all of them take each step together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from atrac_bitstream import tables as t
from atrac_modules.bfu import BFU_RUNS, BfuLayout

_OFFSETS: Final = np.array([[0, 0, 0], [-2, -1, -3], [-1, 0, 1], *[[0, -1, 1]] * 13])
"""Steps by which a scale factor may be moved from the smallest that covers its BFU, for each IDWL [16, 3].

With few levels it pays to clip the largest values. Of all steps from -3 to 2 these win 96 times in 100; the others gain
0.1 dB or less (measured)."""
EFFORTS: Final = {"fast": (0, 0), "default": (1, 1), "best": (2, 2)}
"""How many word lengths below and above that of the formula are measured. The weighted error is 0.5, 0.02 and less than
0.001 dB above the least (music, mean; measured)."""
_LEAST_IMPORTANT: Final = -80.0
"""log2 of an importance relative to the largest; float32 ends there."""
_BUDGET: Final = t.value_bits(0)
_SIDE_BITS: Final = t.IDWL_BITS + t.IDSF_BITS
_LEVELS: Final = np.where(t.WORD_LENGTHS > 0, t.LEVELS, 0).astype(np.float64)
_ROUNDS: Final = 4
"""Times that a price is looked for between two others. The last bits are given away one by one anyway."""
_DEEPEST: Final = 30.0
"""log2 of how much lower than a guess a price may be. Where all fits even then, there is next to nothing to gain."""
_ERROR: Final = 1 / 12
"""Square error of rounding, in square steps."""


def _runs() -> list[tuple[slice, slice, tuple[int, int]]]:
    runs, value, bfu = [], 0, 0
    for size, count in BFU_RUNS:
        runs.append((slice(value, value + size * count), slice(bfu, bfu + count), (count, size)))
        value, bfu = value + size * count, bfu + count
    return runs


_RUNS: Final = _runs()
"""Values and BFUs of neighbours of one size, with their number and size."""


@dataclass(frozen=True)
class Prepared:
    """Sound units made ready for a search: every BFU over its scale factor.

    Shape: values [512, N] in bitstream order; energy, their square sum, idsf, and weight, what an error costs, [52, N]
    """

    values: Tensor
    energy: Tensor
    idsf: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Choices:
    """What every BFU may become: cost and bits, candidate by candidate, and what these stand for.

    Candidate 0 has no bits, each later one has more than the one before.

    Shape: cost, bits, idwl, offset [K, 52, N]
    """

    cost: Tensor
    bits: Tensor
    idwl: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Found:
    """What a search decides. Shape: n_bfu [N], idwl, offset [52, N], price [N].

    Units: offset in steps of the scale factor; price in cost per bit
    """

    n_bfu: Tensor
    idwl: Tensor
    offset: Tensor
    price: Tensor


def check_effort(effort: str) -> str:
    """Return an effort. Raises: ValueError: there is no such."""
    if effort not in EFFORTS:
        raise ValueError(f"effort {effort!r}, allowed {', '.join(EFFORTS)}")
    return effort


@torch.library.custom_op("atrac_modules::allocate_by_importance", mutates_args=())
def allocate_by_importance(
    spectrum: Tensor, idsf: Tensor, bsm: Tensor, importance: Tensor, effort: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Search by importances, log2 of what a squared error costs; one operation to `torch.compile`.

    Shape: spectrum [*, 512], idsf, importance [*, 52], bsm [*, 3] -> n_bfu [*], idwl, offset of idsf [*, 52]
    """
    weight = (importance - importance.amax(-1, keepdim=True)).clamp_min(_LEAST_IMPORTANT).exp2()
    spectrum, index, bsm, weight = (x.reshape(-1, x.shape[-1]) for x in (spectrum, idsf, bsm, weight))
    found = search(prepare(spectrum, index, bsm, weight, BfuLayout().to(spectrum.device)), EFFORTS[effort])
    idwl, offset = (x.T.reshape(idsf.shape).to(idsf.dtype).contiguous() for x in (found.idwl, found.offset))
    return found.n_bfu.reshape(idsf.shape[:-1]).to(idsf.dtype), idwl, offset


@allocate_by_importance.register_fake
def _(spectrum: Tensor, idsf: Tensor, bsm: Tensor, importance: Tensor, effort: str) -> tuple[Tensor, Tensor, Tensor]:
    return idsf.new_empty(idsf.shape[:-1]), torch.empty_like(idsf), torch.empty_like(idsf)


def prepare(spectrum: Tensor, idsf: Tensor, bsm: Tensor, weight: Tensor, layout: BfuLayout) -> Prepared:
    """Make sound units ready for a search.

    Args:
        weight: what the square of an error costs in each BFU, above 0.

    Shape: spectrum [N, 512], idsf, weight [N, 52], bsm [N, 3]
    """
    index = idsf.long().T.contiguous()
    factors = torch.as_tensor(t.SCALE_FACTORS, dtype=spectrum.dtype, device=spectrum.device)[index]
    grouped = layout.group(spectrum, bsm).T.contiguous()
    values = torch.empty_like(grouped)
    _by_bfu(torch.div, grouped, factors, out=values)
    # A coefficient of n short blocks stands for 1 / n of the energy that one of a long block stands for.
    share = torch.exp2(-layout.bsm_of_bfu(bsm).T.to(spectrum.dtype)) * factors.square()
    return Prepared(values, sum_bfus(values.square()), index, weight.T * share)


def search(prepared: Prepared, reach: tuple[int, int]) -> Found:
    """Find number of BFUs, word lengths and scale factors.

    Args:
        reach: how many word lengths below and above what the formula says are measured.
    """
    first = estimate(prepared)
    return choose(measure(prepared, first.idwl, reach), first.price)


def estimate(prepared: Prepared) -> Found:
    """Search with errors by a formula: without bits the energy, else size / 12 of a square step."""
    weight = prepared.weight
    sizes = _per_bfu(t.BFU_SIZES, weight)
    lost = weight * prepared.energy

    amounts = _Amounts(lost)

    def at(price: Tensor, n_bfu: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # Where the slope of the error along the word length is the price.
        steps = (weight * (2 * math.log(2) * _ERROR) / price).sqrt()
        word = (steps + 1).log2().add_(1).round_().clamp_(2, t.WORD_LENGTHS[-1])
        bits = word * sizes
        cost = weight * sizes * _ERROR / ((word - 1).exp2_() - 1).square_() + bits * price
        n_bfu = amounts.at(torch.minimum(cost, lost), price) if n_bfu is None else n_bfu
        taken = (cost < lost) & _carries(n_bfu)
        return (word - 1).long() * taken, (bits * taken).sum(0) + _SIDE_BITS * n_bfu

    loud = (lost / sizes).clamp_min(2.0**-100)
    guess = torch.maximum(loud, loud.amax(0) * 2.0**-40).log2().mean(0) - 6
    price = _find_level(lambda level: at(level.exp2())[1], guess, active=lost.sum(0) > 0).exp2()
    n_bfu = amounts.best()
    return Found(n_bfu, at(price, n_bfu)[0], torch.zeros_like(n_bfu), price)


def measure(prepared: Prepared, idwl: Tensor, reach: tuple[int, int]) -> Choices:
    """Quantize every BFU in several word lengths, and keep for each the scale factor that leaves the least error.

    One more word length on top is not measured. Its error is that of the one below in smaller steps, its scale factor
    the one that is best most often: there, errors are small and hardly differ by scale factor.

    Args:
        idwl: word length indices around which to try.
        reach: how many below and above are measured.

    Shape: idwl [52, N] -> candidates [3 + reach[0] + reach[1], 52, N]
    """
    around = torch.arange(-reach[0], reach[1] + 2, device=idwl.device)[:, None, None]
    idwl = idwl.clamp(1 + reach[0], t.IDWL_MAX - reach[1] - 1) + around
    magnitude = prepared.values.abs()
    dtype, device = magnitude.dtype, magnitude.device
    levels = torch.as_tensor(_LEVELS, dtype=dtype, device=device)[idwl]
    offsets = torch.as_tensor(_OFFSETS, dtype=dtype, device=device)[idwl].unbind(-1)
    error, best = torch.full_like(levels, torch.inf), torch.zeros_like(levels)
    exact, rounded = torch.empty_like(magnitude), torch.empty_like(magnitude)
    for k, most in enumerate(levels[:-1]):
        for offset in offsets:
            moved = offset[k]
            steps = most * torch.exp2(moved / -3)
            _by_bfu(torch.mul, magnitude, steps, out=exact)
            torch.round(exact, out=rounded)
            _by_bfu(torch.minimum, rounded, most, out=rounded)
            found = sum_bfus(exact.sub_(rounded).square_()) / steps.square()
            found = torch.where((prepared.idsf + moved >= 0) & (prepared.idsf + moved <= t.IDSF_MAX), found, torch.inf)
            best[k] = torch.where(found < error[k], moved, best[k])
            torch.minimum(error[k], found, out=error[k])
    error[-1] = error[-2] * (levels[-2] / levels[-1]).square()
    best[-1] = torch.maximum(offsets[0][-1], -prepared.idsf)
    nothing = torch.zeros_like(best[:1])
    words = torch.as_tensor(t.WORD_LENGTHS, dtype=dtype, device=device)[idwl] * _per_bfu(t.BFU_SIZES, magnitude)
    return Choices(
        torch.cat([prepared.energy[None], error]) * prepared.weight,
        torch.cat([nothing, words]),
        torch.cat([nothing, idwl]).to(idwl.dtype),
        torch.cat([nothing, best]),
    )


def choose(choices: Choices, price: Tensor) -> Found:
    """Choose number of BFUs and candidates.

    Args:
        price: where to start looking for the price of a bit [N].
    """
    level, n_bfu = _settle(choices, price.log2())
    level = _find_level(lambda x: _bits(choices, x, lambda *_: n_bfu), level, _active(choices))
    _, used = cheapest(choices, level.exp2())
    # Bits tell the candidate: each has more than the one before.
    candidate = (choices.bits[1:] <= used).sum(0) * _carries(n_bfu)
    candidate = _fill(choices, candidate, n_bfu, _BUDGET - _all_bits(used, n_bfu))
    return Found(n_bfu, _pick(choices.idwl, candidate), _pick(choices.offset, candidate), level.exp2())


def price_of(choices: Choices, guess: Tensor) -> Tensor:
    """Return the price of a bit at which all fits, whatever number of BFUs pays [N], from a guess on."""
    return _settle(choices, guess.log2())[0].exp2()


def cheapest(choices: Choices, price: Tensor) -> tuple[Tensor, Tensor]:
    """Take what costs each BFU least at a price of a bit [N].

    Returns:
        What it costs with its bits, and its bits. Shape: [52, N]
    """
    best, used = choices.cost[0], choices.bits[0]
    for cost, bits in zip(choices.cost[1:], choices.bits[1:], strict=True):
        total = torch.addcmul(cost, bits, price)
        used = torch.where(total < best, bits, used)
        best = torch.minimum(total, best)
    return best, used


def _settle(choices: Choices, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Return log2 of the price at which all fits with any number of BFUs, and the number that costs least [N]."""
    amounts = _Amounts(choices.cost[0])
    level = _find_level(lambda x: _bits(choices, x, amounts.at), guess, _active(choices))
    return level, amounts.best()


def _bits(choices: Choices, level: Tensor, amount: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the bits [N] that are taken at log2 of a price, by as many BFUs as `amount` makes of costs and price."""
    price = level.exp2()
    best, used = cheapest(choices, price)
    return _all_bits(used, amount(best, price))


def _all_bits(used: Tensor, n_bfu: Tensor) -> Tensor:
    """Add up the bits of values and of what each carried BFU has beside them. Shape: [52, N], [N] -> [N]."""
    return (used * _carries(n_bfu)).sum(0) + _SIDE_BITS * n_bfu


def _active(choices: Choices) -> Tensor:
    """Tell which sound units have anything to take bits for [N]."""
    return choices.cost[0].sum(0) > 0


def sum_bfus(values: Tensor) -> Tensor:
    """Add up each BFU of values in bitstream order. Shape: [512, N] -> [52, N]."""
    out = values.new_empty(t.N_BFU_MAX, values.shape[1])
    for own, bfus, shape in _RUNS:
        torch.sum(values[own].view(*shape, -1), 1, out=out[bfus])
    return out


def _by_bfu(operation: Callable[..., Tensor], values: Tensor, per_bfu: Tensor, out: Tensor) -> None:
    """Do something with each value and a number of its BFU. Shape: [512, N], [52, N] -> out [512, N]."""
    for own, bfus, shape in _RUNS:
        operation(values[own].view(*shape, -1), per_bfu[bfus, None], out=out[own].view(*shape, -1))


def _per_bfu(table: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(table, dtype=like.dtype, device=like.device)[:, None]


def _pick(table: Tensor, candidate: Tensor) -> Tensor:
    return table.gather(0, candidate[None])[0]


def _carries(n_bfu: Tensor) -> Tensor:
    return torch.arange(t.N_BFU_MAX, device=n_bfu.device)[:, None] < n_bfu


class _Amounts:
    """What each number of BFUs costs at least, told from all prices that were tried.

    At any price, what n BFUs cost with their bits, and the others without any, less the price of all the bits there
    are, is a bound: n BFUs cannot cost less within these bits. The number whose highest bound is least is best. The
    bounds of a single price will not do: one more group of BFUs often begins to pay where bits for it are lacking.

    Args:
        lost: what each BFU costs without bits [52, N].
    """

    def __init__(self, lost: Tensor) -> None:
        self._amounts = torch.as_tensor(t.BFU_AMOUNTS, device=lost.device)
        self._budgets = (_BUDGET - _SIDE_BITS * self._amounts).to(lost.dtype)[:, None]
        self._carried = _carries(self._amounts).T.to(lost.dtype)
        self._left_out = (1 - self._carried) @ lost
        self._bounds = torch.full_like(self._left_out, -torch.inf)

    def at(self, cost: Tensor, price: Tensor) -> Tensor:
        """Return the number of BFUs that costs least at a price [N], if each costs so much with its bits [52, N]."""
        bounds = self._carried @ cost + self._left_out - self._budgets * price
        self._bounds = torch.maximum(self._bounds, bounds)
        return self._amounts[bounds.argmin(0)]

    def best(self) -> Tensor:
        """Return the number of BFUs that costs least within the bits [N]."""
        return self._amounts[self._bounds.argmin(0)]


def _find_level(bits: Callable[[Tensor], Tensor], guess: Tensor, active: Tensor) -> Tensor:
    """Find the log2 of a price at which the bits fit and few are left [N]; a lower price takes more bits.

    Args:
        bits: returns what a level takes.
        guess: level to start from.
        active: which sound units have anything to take bits for.
    """
    low, high = guess - 0.5, guess + 0.5
    over, spare = bits(low) - _BUDGET, _BUDGET - bits(high)
    step = 0.5
    while (short := spare < 0).any():
        step *= 2
        low, over = torch.where(short, high, low), torch.where(short, -spare, over)
        high = torch.where(short, high + step, high)
        spare = _BUDGET - bits(high)
    step = 0.5
    while (fits := (over <= 0) & active).any() and step < _DEEPEST:
        step *= 2
        high, spare = torch.where(fits, low, high), torch.where(fits, -over, spare)
        low = torch.where(fits, low - step, low)
        over = bits(low) - _BUDGET
    for _ in range(_ROUNDS):  # between the two the bits fall nearly along a line
        share = (over / (over + spare).clamp_min(1)).clamp(0.1, 0.9)
        middle = low + share * (high - low)
        left = _BUDGET - bits(middle)
        low, high = torch.where(left < 0, middle, low), torch.where(left < 0, high, middle)
        over, spare = torch.where(left < 0, -left, over), torch.where(left < 0, spare, left)
    return high


def _fill(choices: Choices, candidate: Tensor, n_bfu: Tensor, spare: Tensor) -> Tensor:
    """Give the bits [N] that are left over to the steps that lower the cost most for each bit, while they fit."""
    cost, bits = choices.cost, choices.bits
    bfu = torch.arange(t.N_BFU_MAX, device=cost.device)[:, None]
    carried = _carries(n_bfu)
    # What the step from each candidate to the next takes and gains, by bit.
    more = torch.cat([bits[1:] - bits[:-1], torch.full_like(bits[:1], torch.inf)])
    rate = torch.cat([(cost[:-1] - cost[1:]) / more[:-1].clamp_min(1), torch.zeros_like(cost[:1])])
    while True:
        taken, gain = _pick(more, candidate), _pick(rate, candidate)
        best, which = torch.where(carried & (taken <= spare), gain, 0.0).max(0)
        chosen = (bfu == which) & (best > 0)
        if not chosen.any():
            return candidate
        spare = spare - (taken * chosen).sum(0)
        candidate = candidate + chosen
