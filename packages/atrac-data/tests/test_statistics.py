"""Statistics taken run by run, against NumPy on everything at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atrac_data import FIELDS, FrameDataset, Statistics, histogram_axis, measure

RELATIVE = 1e-12
"""Sums in float64, in another order."""


@pytest.fixture(scope="module")
def everything(extracted: Path) -> dict[str, np.ndarray]:
    runs = list(FrameDataset(extracted / "train").runs())
    return {name: np.concatenate([run[name].reshape(-1) for run in runs]) for name in FIELDS}


@pytest.fixture(scope="module")
def statistics(extracted: Path) -> Statistics:
    return measure(FrameDataset(extracted / "train").runs())


def test_numbers_are_numpys(everything, statistics):
    assert tuple(statistics.fields) == tuple(FIELDS)
    for name, one in statistics.fields.items():
        values = everything[name].astype(np.float64)
        assert one.count == values.size
        assert (one.minimum, one.maximum) == (values.min(), values.max())
        assert one.mean == pytest.approx(values.mean(), rel=RELATIVE, abs=RELATIVE * np.abs(values).max())
        assert one.deviation == pytest.approx(values.std(), rel=1e-10)


def test_histograms_are_numpys(everything, statistics):
    for name, one in statistics.fields.items():
        edges, _ = histogram_axis(name)
        values = np.abs(everything[name].astype(np.float64))
        assert one.histogram.sum() == one.count == values.size
        assert len(one.histogram) == len(edges)
        if FIELDS[name].dtype.kind == "f":
            values = 20 * np.log10(np.maximum(values, 1e-12))
        expected = np.histogram(values.clip(edges[0], edges[-1]), [*edges, np.inf])[0]
        # Levels are float32: what lies on an edge may fall to either side of it.
        slack = 1 + 1e-3 * values.size if FIELDS[name].dtype.kind == "f" else 0
        assert np.abs(one.histogram - expected).max() <= slack, name


def test_frames_and_short_shares_are_counted_by_channel(extracted, everything, statistics):
    assert statistics.frames == len(FrameDataset(extracted / "train"))
    shares = (everything["bsm"].reshape(-1, 3) > 0).mean(0)
    assert list(statistics.short_shares) == ["low", "mid", "high"]
    assert list(statistics.short_shares.values()) == pytest.approx(shares.tolist())
    assert min(shares) > 0


def test_a_large_mean_costs_no_precision():
    statistics = Statistics()
    values = 1e6 + np.random.default_rng(0).standard_normal((4, 2, 50, 512))
    for part in values:
        statistics.add({"pcm": part})
    assert statistics.fields["pcm"].deviation == pytest.approx(values.std(), rel=1e-9)


def test_nothing_measured_is_nothing(recwarn):
    statistics = measure([])
    assert (statistics.frames, statistics.short_shares, statistics.fields) == (0, {}, {})
    statistics.add({"pcm": np.zeros((1, 0, 512), np.float32)})
    assert statistics.fields["pcm"].count == 0
    assert statistics.fields["pcm"].deviation == 0
    assert "short_shares" in statistics.as_dict()
    assert not recwarn.list


def test_whole_numbers_fall_where_the_axis_says():
    statistics = Statistics()
    quantized = np.array([0, 1, -1, 2, 3, -4, 7, 8, 32767, -32767], np.int16)
    statistics.add({"quantized": quantized[None, :, None], "idsf": np.array([[[0, 63, 63]]], np.uint8)})
    edges, name = histogram_axis("quantized")
    assert name == "|value|"
    assert edges[[0, 1, 2, 3, 4, 15]].tolist() == [0, 1, 2, 4, 8, 16384]
    assert statistics.fields["quantized"].histogram[[0, 1, 2, 3, 4, 15]].tolist() == [1, 2, 2, 2, 1, 2]
    assert statistics.fields["idsf"].histogram[[0, 63]].tolist() == [1, 2]


def test_silence_is_in_the_lowest_bin_and_overload_in_the_highest():
    statistics = Statistics()
    statistics.add({"pcm": np.array([[[0.0, 1e-30, -1.0, 1e9]]], np.float32)})
    edges, name = histogram_axis("pcm")
    assert name == "20 log10 |value|, dB"
    histogram = statistics.fields["pcm"].histogram
    assert (histogram[0], histogram[edges == 0.0], histogram[-1]) == (2, 1, 1)


def test_as_dict_is_json(statistics):
    back = json.loads(json.dumps(statistics.as_dict(), allow_nan=False))
    assert back["frames"] == statistics.frames
    assert back["fields"]["idsf"]["max"] <= 63
    assert set(back["fields"]["pcm"]) == {"count", "min", "max", "mean", "std", "histogram"}
