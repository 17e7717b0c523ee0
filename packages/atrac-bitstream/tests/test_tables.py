"""Every table: length, sum, ends, and a value worked out by hand."""

import numpy as np
import pytest

from atrac_bitstream import readable_value_bits, value_bits
from atrac_bitstream import tables as t

FLOAT64_TOLERANCE = 1e-14
"""A few units in the last place of a power of two taken in float64."""


# Sums by hand, as sums over runs of equal BFUs: 4 x 8 + 4 x 4 + 4 x 8 + 8 x 6 = 128, and so on.
INTEGER_TABLES = {
    # name: table, length, sum, first, last, {index: value}
    "BAND_SIZES": (t.BAND_SIZES, 3, 512, 128, 256, {1: 128}),
    "BSM_SHORT": (t.BSM_SHORT, 3, 7, 2, 3, {1: 2}),
    "BSM_STORED_LONG": (t.BSM_STORED_LONG, 3, 7, 2, 3, {1: 2}),
    "BFU_AMOUNTS": (t.BFU_AMOUNTS, 8, 300, 20, 52, {1: 28, 4: 40}),
    "BFU_SIZES": (
        t.BFU_SIZES,
        52,
        512,
        8,
        20,
        {4: 4, 8: 8, 12: 6, 19: 6, 20: 6, 24: 7, 28: 9, 32: 10, 36: 12},
    ),
    "BFU_BANDS": (t.BFU_BANDS, 52, 16 + 32, 0, 2, {19: 0, 20: 1, 35: 1, 36: 2}),
    "BFU_OFFSETS": (t.BFU_OFFSETS, 53, 52 * 512 - 16_208, 0, 512, {4: 32, 20: 128, 36: 256, 44: 352}),
    "BFU_STARTS_SHORT": (t.BFU_STARTS_SHORT, 52, 1224 + 2980 + 5984, 0, 492, {4: 8, 24: 134, 44: 268}),
    "BFU_OF_VALUE": (t.BFU_OF_VALUE, 512, 1184 + 3632 + 11_392, 0, 51, {127: 19, 128: 20, 352: 44}),
    "BAND_OF_VALUE": (t.BAND_OF_VALUE, 512, 128 + 512, 0, 2, {127: 0, 128: 1, 255: 1, 256: 2}),
    "SHORT_ORDER": (t.SHORT_ORDER, 512, 512 * 511 // 2, 0, 511, {8: 32, 32: 8, 352: 268}),
    "WORD_LENGTHS": (t.WORD_LENGTHS, 16, 135, 0, 16, {1: 2, 7: 8}),
    "LEVELS": (t.LEVELS, 16, 65_520, 1, 32_767, {1: 1, 3: 7, 7: 127}),
}


@pytest.mark.parametrize("name", INTEGER_TABLES)
def test_table_has_its_length_sum_ends_and_values_by_hand(name: str) -> None:
    table, length, total, first, last, by_hand = INTEGER_TABLES[name]
    values = np.asarray(table)
    assert values.shape == (length,)
    assert values.dtype == np.int64
    assert (values.sum(), values[0], values[-1]) == (total, first, last)
    assert {index: values[index] for index in by_hand} == by_hand


def test_scale_factors_are_thirds_of_octaves_up_to_one() -> None:
    assert t.SCALE_FACTORS.shape == (64,)
    assert t.SCALE_FACTORS.dtype == np.float64
    assert t.SCALE_FACTORS[63] == 1.0
    assert t.SCALE_FACTORS[0] == 2.0**-21
    assert t.SCALE_FACTORS[60] == 0.5
    assert t.SCALE_FACTORS[62] == pytest.approx(2 ** (-1 / 3), rel=FLOAT64_TOLERANCE)
    geometric = 2.0**-21 * (2 ** (64 / 3) - 1) / (2 ** (1 / 3) - 1)
    assert t.SCALE_FACTORS.sum() == pytest.approx(geometric, rel=64 * FLOAT64_TOLERANCE)


def test_bfus_follow_one_another_and_fill_their_band() -> None:
    assert (np.diff(t.BFU_OFFSETS) == t.BFU_SIZES).all()
    assert [t.BFU_SIZES[np.equal(t.BFU_BANDS, band)].sum() for band in range(3)] == list(t.BAND_SIZES)
    assert (np.bincount(t.BFU_OF_VALUE) == t.BFU_SIZES).all()
    assert [t.SHORT_SIZE << mode for mode in t.BSM_SHORT] == list(t.BAND_SIZES)


def test_short_order_matches_a_walk_over_the_bfus() -> None:
    walk: list[int] = []
    for start, size in zip(t.BFU_STARTS_SHORT.tolist(), t.BFU_SIZES.tolist()):
        walk += range(start, start + size)
    assert t.SHORT_ORDER.tolist() == walk


BUDGETS = [(20, 1456), (28, 1376), (32, 1336), (36, 1296), (40, 1256), (44, 1216), (48, 1176), (52, 1136)]


@pytest.mark.parametrize(("n_bfu", "bits"), BUDGETS)
def test_budget_is_what_other_fields_leave(n_bfu: int, bits: int) -> None:
    assert value_bits(n_bfu) == bits == 1656 - 10 * n_bfu
    assert readable_value_bits(n_bfu) == bits + 8 == 1664 - 10 * n_bfu
