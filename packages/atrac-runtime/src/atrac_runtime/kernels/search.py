"""Rate-distortion search: the word lengths, scale factors and number of BFUs of the least weighted error in the budget.

    minimise  D = sum over BFUs of weight x squared error
    subject to  R = bits of all values + 10 n_bfu  <=  budget

By a Lagrangian: for a multiplier λ, each BFU minimises distortion + λ · rate over all its word lengths, whose
distortion is measured by quantizing with several scale factors; the number of BFUs is the one with the least total. A
larger λ gives a smaller rate; the least λ whose rate fits is found by bracketing and interpolation. All codes have a
fixed length, so that the result is optimal but for the bits that remain; these are spent where they lower the
distortion most for each bit.

The distortion and the blocks of sound units, in which these come last, are those of `distortion.py`.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from atrac_bitstream import tables as t
from atrac_runtime.kernels.compiled import kernel
from atrac_runtime.kernels.distortion import BLOCK, Block, Float, Integer, measure, new_block, prepare

BUDGET: Final = t.value_bits(0)
SIDE_BITS: Final = t.IDWL_BITS + t.IDSF_BITS
"""Bits of each carried BFU besides its values."""
LOWEST: Final = 30.0
"""log2 of how far below the guess a multiplier is sought. If all fits even there, nothing more is worth its bits."""
INTERPOLATIONS: Final = 4
"""Steps of interpolation between two bracketing multipliers; the bits that remain are spent one by one anyway."""

_N_BFU: Final = t.N_BFU_MAX
_LONGEST: Final = t.IDWL_MAX
_RATES: Final = (t.WORD_LENGTHS[:, None] * t.BFU_SIZES).astype(np.float32)
"""Bits of the values of each BFU, by word length index [16, 52]."""
_SIZES: Final = t.BFU_SIZES.astype(np.float32)
_AMOUNTS: Final = np.array(t.BFU_AMOUNTS)
_QUIETEST: Final = np.float32(2.0**-100)
_RANGE: Final = np.float32(2.0**-40)
_INFINITE: Final = np.float32(np.inf)


def allocate_by_importance(
    spectrum: Float, idsf: Integer, bsm: Integer, importance: Float
) -> tuple[Integer, Integer, Integer]:
    """Search with importances, log2 of the weight of a squared error of each BFU.

    Args:
        idsf: index of the smallest scale factor that covers each BFU.

    Returns:
        Number of BFUs, word length indices, and changes of the scale factor indices.

    Shape: spectrum [N, 512], idsf, importance [N, 52], bsm [N, 3] -> n_bfu [N], idwl, offset [N, 52]
    """
    n_bfu, idwl, offset = (np.empty(shape, np.int32) for shape in (len(idsf), idsf.shape, idsf.shape))
    _allocate(spectrum, idsf, bsm, importance, n_bfu, idwl, offset)
    return n_bfu, idwl, offset


@kernel
def _allocate(
    spectrum: Float,
    idsf: Integer,
    bsm: Integer,
    importance: Float,
    n_bfu: Integer,
    idwl: Integer,
    offset: Integer,
) -> None:
    block = new_block()
    word, number = np.empty((_N_BFU, BLOCK), np.int32), np.empty(BLOCK, np.int64)
    highest, log2_lam = np.zeros(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bounds = np.empty((len(_AMOUNTS), BLOCK), np.float32)
    for first in range(0, len(spectrum), BLOCK):
        count = min(BLOCK, len(spectrum) - first)
        for j in range(count):
            highest[j] = importance[first + j].max()
        prepare(block, spectrum[first:], idsf[first:], bsm[first:], importance[first:], highest, count)
        measure(block)
        guess(block, log2_lam)
        bounds[:] = -_INFINITE
        find_log2_lam(block, log2_lam, bounds, number, False)
        for j in range(count):
            number[j] = _AMOUNTS[np.argmin(bounds[:, j])]
        find_log2_lam(block, log2_lam, bounds, number, True)
        minimise_lagrangian(block, log2_lam)
        for j in range(count):
            spend(block, j, number[j], word)
            n_bfu[first + j] = number[j]
            for bfu in range(_N_BFU):
                idwl[first + j, bfu] = word[bfu, j]
                offset[first + j, bfu] = block.offset[word[bfu, j], bfu, j]


@kernel
def guess(block: Block, log2_lam: Float) -> None:
    """Guess log2 of the multiplier from the mean level of the BFUs."""
    for j in range(log2_lam.shape[0]):
        loudest = _QUIETEST
        for bfu in range(_N_BFU):
            loudest = max(loudest, block.distortion[0, bfu, j] / _SIZES[bfu])
        total = 0.0
        for bfu in range(_N_BFU):
            total += math.log2(max(block.distortion[0, bfu, j] / _SIZES[bfu], loudest * _RANGE))
        log2_lam[j] = total / _N_BFU - 6


@kernel
def find_log2_lam(block: Block, log2_lam: Float, bounds: Float, number: Any, fixed: bool) -> None:
    """Find log2 of a multiplier whose rate fits the budget with few bits left.

    Args:
        log2_lam: log2 of the multiplier to start from; replaced by the result.
        bounds: lower bounds of the distortion for each number of BFUs [8, B]; raised at each multiplier tried.
        number: number of BFUs, if it is fixed.
        fixed: keep the number of BFUs, instead of taking the one with the least total.
    """
    units = log2_lam.shape[0]
    low, high = log2_lam - np.float32(0.5), log2_lam + np.float32(0.5)
    over, spare = np.empty(units, np.float32), np.empty(units, np.float32)
    active = np.empty(units, np.bool_)
    for j in range(units):
        active[j] = block.distortion[0, :, j].max() > 0
        left_out, bfu = np.float32(0), _N_BFU
        for amount in range(len(_AMOUNTS) - 1, -1, -1):
            while bfu > _AMOUNTS[amount]:
                bfu -= 1
                left_out += block.distortion[0, bfu, j]
            block.left_out[amount, j] = left_out
    _excess(block, low, over, bounds, number, fixed)
    _excess(block, high, spare, bounds, number, fixed)
    spare = -spare
    step = np.float32(0.5)
    while (spare < 0).any():
        step *= 2
        for j in range(units):
            if spare[j] < 0:
                low[j], over[j] = high[j], -spare[j]
                high[j] += step
        _excess(block, high, spare, bounds, number, fixed)
        spare = -spare
    step = np.float32(0.5)
    while ((over <= 0) & active).any() and step < LOWEST:
        step *= 2
        for j in range(units):
            if over[j] <= 0 and active[j]:
                high[j], spare[j] = low[j], -over[j]
                low[j] -= step
        _excess(block, low, over, bounds, number, fixed)
    middle, excess = np.empty(units, np.float32), np.empty(units, np.float32)
    for _ in range(INTERPOLATIONS):  # between the two, the rate is nearly linear
        for j in range(units):
            share = over[j] / max(over[j] + spare[j], np.float32(1))
            middle[j] = low[j] + min(max(share, np.float32(0.1)), np.float32(0.9)) * (high[j] - low[j])
        _excess(block, middle, excess, bounds, number, fixed)
        for j in range(units):
            if excess[j] > 0:
                low[j], over[j] = middle[j], excess[j]
            else:
                high[j], spare[j] = middle[j], -excess[j]
    log2_lam[:] = high


@kernel
def _excess(block: Block, log2_lam: Float, excess: Float, bounds: Float, number: Any, fixed: bool) -> None:
    """Compute the bits over the budget at a multiplier, and raise the lower bounds of the distortion.

    By weak duality, for any λ, the minimum of D + λ · R less λ · budget is at most the distortion of any choice that
    fits. Each number of BFUs keeps its highest bound; the number whose highest bound is least is best. A single λ is
    not enough: often another group of BFUs begins to pay where the bits for it are lacking.
    """
    minimise_lagrangian(block, log2_lam)
    units = log2_lam.shape[0]
    carried, bits = np.zeros(units, np.float32), np.zeros(units, np.float32)
    best = np.full(units, _INFINITE)
    bfu = 0
    for amount in range(len(_AMOUNTS)):
        while bfu < _AMOUNTS[amount]:
            for j in range(units):
                carried[j] += block.least[bfu, j]
                bits[j] += block.rate[bfu, j]
            bfu += 1
        extra = np.float32(SIDE_BITS * _AMOUNTS[amount] - BUDGET)
        for j in range(units):
            bound = carried[j] + block.left_out[amount, j] + extra * np.float32(2.0 ** log2_lam[j])
            if fixed:
                excess[j] = bits[j] + extra if number[j] == _AMOUNTS[amount] else excess[j]
            else:
                bounds[amount, j] = max(bounds[amount, j], bound)
                excess[j] = bits[j] + extra if bound < best[j] else excess[j]
                best[j] = min(best[j], bound)


@kernel
def minimise_lagrangian(block: Block, log2_lam: Float) -> None:
    """Minimise distortion + λ · rate for each BFU; sets the minimum and the rate there."""
    units = log2_lam.shape[0]
    lam = np.empty(units, np.float32)
    for j in range(units):
        lam[j] = 2.0 ** log2_lam[j]
    for bfu in range(_N_BFU):
        least, rate = block.least[bfu], block.rate[bfu]
        for j in range(units):
            least[j], rate[j] = block.distortion[0, bfu, j], 0
        for word in range(1, _LONGEST + 1):
            own = _RATES[word, bfu]
            for j in range(units):
                lagrangian = block.distortion[word, bfu, j] + own * lam[j]
                rate[j] = own if lagrangian < least[j] else rate[j]
                least[j] = min(lagrangian, least[j])


@kernel
def spend(block: Block, unit: int, n_bfu: int, word: Integer) -> None:
    """Set the word lengths of a unit, and spend spare bits on the steps that lower the distortion most for each bit."""
    word[:, unit] = 0
    spare = np.float32(BUDGET - SIDE_BITS * n_bfu)
    for bfu in range(n_bfu):
        index = 0
        while _RATES[index, bfu] < block.rate[bfu, unit]:
            index += 1
        word[bfu, unit] = index
        spare -= _RATES[index, bfu]
    while True:
        most, best = np.float32(0), -1
        for bfu in range(n_bfu):
            index = word[bfu, unit]
            if index == _LONGEST:
                continue
            more = _RATES[index + 1, bfu] - _RATES[index, bfu]
            gain = (block.distortion[index, bfu, unit] - block.distortion[index + 1, bfu, unit]) / more
            if more <= spare and gain > most:
                most, best = gain, bfu
        if best < 0:
            return
        spare -= _RATES[word[best, unit] + 1, best] - _RATES[word[best, unit], best]
        word[best, unit] += 1
