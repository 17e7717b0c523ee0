from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream import pack_units
from atrac_bitstream import tables as t
from atrac_runtime.kernels.distortion import BLOCK, OFFSETS
from atrac_runtime.kernels.search import allocate_by_importance

MEAN_LOSS, WORST_LOSS = 0.05, 0.5
"""dB of weighted error over the least there is with the same scale factors; measured 0.02 and 0.3."""
_SIZES = np.asarray(t.BFU_SIZES)
_BFU = np.asarray(t.BFU_OF_VALUE)


def sound_units(seed: int, number: int) -> SimpleNamespace:
    """Noise of all slopes and levels, block lengths and importances by chance."""
    generator = np.random.default_rng(seed)
    slope = np.logspace(0, -4, 512) ** generator.random((number, 1))
    spectrum = generator.standard_normal((number, 512)) * slope * 10.0 ** -generator.integers(1, 5, (number, 1))
    bsm = np.array(t.BSM_SHORT) * generator.integers(0, 2, (number, 3))
    importance = generator.normal(0, 4, (number, 52))
    return units(spectrum.clip(-1, 1), bsm, importance)


def units(spectrum: NDArray, bsm: NDArray, importance: NDArray) -> SimpleNamespace:
    """Bring together the inputs of a search, with the smallest scale factors that cover each BFU."""
    spectrum = spectrum.astype(np.float32)
    order = np.where((bsm > 0)[:, t.BAND_OF_VALUE], t.SHORT_ORDER, np.arange(512))
    values = np.take_along_axis(spectrum, order, 1)
    largest = np.maximum.reduceat(abs(values), np.append(0, np.cumsum(_SIZES)[:-1]), axis=1)
    idsf = np.searchsorted(t.SCALE_FACTORS.astype(np.float32), largest).clip(0, t.IDSF_MAX)
    idsf, bsm, importance = idsf.astype(np.int32), bsm.astype(np.int32), importance.astype(np.float32)
    return SimpleNamespace(spectrum=spectrum, idsf=idsf, bsm=bsm, importance=importance, values=values, order=order)


def search(case: SimpleNamespace) -> tuple[NDArray, NDArray, NDArray]:
    return allocate_by_importance(case.spectrum, case.idsf, case.bsm, case.importance)


def quantized(case: SimpleNamespace, idwl: NDArray, offset: NDArray) -> tuple[NDArray, NDArray]:
    """Return the whole numbers in bitstream order, and the weighted error of each BFU [N, 52]."""
    levels = np.where(t.WORD_LENGTHS > 0, 2.0 ** (t.WORD_LENGTHS - 1) - 1, 0)[idwl][:, _BFU]
    factor = t.SCALE_FACTORS[(case.idsf + offset).clip(0, t.IDSF_MAX)][:, _BFU]
    whole = np.rint(case.values / factor * levels).clip(-levels, levels)
    error = (case.values - whole * factor / np.maximum(levels, 1)) ** 2
    weight = 2.0**case.importance / (1 << case.bsm)[:, t.BFU_BANDS]
    return whole, np.add.reduceat(error, np.append(0, np.cumsum(_SIZES)[:-1]), axis=1) * weight


def least_of_all(case: SimpleNamespace) -> NDArray:
    """Return the least weighted error that fits the budget, by a knapsack filled bit by bit [N]."""
    shape = case.idsf.shape
    costs = np.full((16, *shape), np.inf)
    for idwl in range(16):
        for move in OFFSETS[idwl]:
            possible = (case.idsf + move >= 0) & (case.idsf + move <= t.IDSF_MAX)
            error = quantized(case, np.full(shape, idwl), np.full(shape, move))[1]
            costs[idwl] = np.where(possible, np.minimum(costs[idwl], error), costs[idwl])
    found = []
    for cost in np.moveaxis(costs, 1, 0):
        least, best = np.zeros(t.value_bits(0) + 1), np.inf  # by bits that may be used
        for bfu in range(t.N_BFU_MAX):
            with_it = np.full_like(least, np.inf)
            for idwl, word in enumerate(t.WORD_LENGTHS):
                bits = int(word * _SIZES[bfu])
                with_it[bits:] = np.minimum(with_it[bits:], least[: len(least) - bits] + cost[idwl, bfu])
            least = with_it
            if bfu + 1 in t.BFU_AMOUNTS:
                best = min(best, least[t.value_bits(bfu + 1)] + cost[0, bfu + 1 :].sum())
        found.append(best)
    return np.array(found)


def test_search_is_legal_and_close_to_the_best_there_is():
    case = sound_units(1, 24)
    n_bfu, idwl, offset = search(case)
    whole, error = quantized(case, idwl, offset)
    carried = np.arange(52) < n_bfu[:, None]
    coefficients = np.zeros_like(whole)
    np.put_along_axis(coefficients, case.order, whole, 1)
    # Refuses what is too much.
    pack_units(case.bsm, n_bfu, idwl, (case.idsf + offset) * carried, coefficients.astype(np.int32))
    assert not (idwl * ~carried).any()
    assert not (offset * (idwl == 0)).any()
    loss = 10 * np.log10(error.sum(1) / least_of_all(case))
    assert loss.min() > -1e-3, "better than the best"
    assert loss.mean() < MEAN_LOSS
    assert loss.max() < WORST_LOSS


@pytest.mark.parametrize("number", [0, 1, BLOCK - 1, BLOCK + 1])
def test_sound_units_do_not_depend_on_their_company(number: int):
    case = sound_units(2, 2 * BLOCK + 3)
    some = SimpleNamespace(**{name: own[5 : 5 + number] for name, own in vars(case).items()})
    for one, all_of_them in zip(search(some), search(case), strict=True):
        np.testing.assert_array_equal(one, all_of_them[5 : 5 + number])


def test_only_differences_of_importances_count():
    case = sound_units(3, 40)
    other = SimpleNamespace(**{**vars(case), "importance": case.importance + 32})
    for one, same in zip(search(case), search(other), strict=True):
        np.testing.assert_array_equal(one, same)


def test_silence_has_no_bits():
    n_bfu, idwl, offset = search(units(np.zeros((3, 512)), np.zeros((3, 3), int), np.zeros((3, 52))))
    assert n_bfu.tolist() == [20] * 3
    assert not idwl.any()
    assert not offset.any()
