"""Statistics taken run by run, against NumPy on everything at once."""

from __future__ import annotations

import numpy as np
import pytest

from atrac_data import FIELDS, FieldStatistics, FrameDataset, measure


def test_numbers_are_numpys(extracted):
    runs = list(FrameDataset(extracted / "train").runs())
    statistics = measure(runs)
    assert tuple(statistics) == tuple(FIELDS)
    for name, one in statistics.items():
        values = np.concatenate([run[name].reshape(-1) for run in runs]).astype(np.float64)
        assert (one.count, one.minimum, one.maximum) == (values.size, values.min(), values.max())
        assert one.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-12 * np.abs(values).max())
        assert one.deviation == pytest.approx(values.std(), rel=1e-10)


def test_a_large_mean_costs_no_precision():
    statistics = FieldStatistics()
    values = 1e6 + np.random.default_rng(0).standard_normal((4, 2, 50, 512))
    for part in values:
        statistics.add(part)
    assert statistics.deviation == pytest.approx(values.std(), rel=1e-9)


def test_nothing_measured_is_nothing():
    assert measure([]) == {}
    nothing = measure([{"pcm": np.zeros((1, 0, 512), np.float32)}])["pcm"]
    assert (nothing.count, nothing.mean, nothing.deviation) == (0, 0, 0)
