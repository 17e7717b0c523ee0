"""Statistics of ground truth: count, range, mean, standard deviation and histogram of each field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from atrac_data.fields import FIELDS, Frames

LEVELS: Final = np.arange(-160.0, 22.0, 2.0)
"""Left edges of the bins for floats, dB of their magnitude; what is outside falls into the first or the last bin."""
BANDS: Final = ("low", "mid", "high")


@final
@dataclass
class FieldStatistics:
    """What is known of one field's values.

    Args:
        count: number of values.
        minimum, maximum, mean: of the values.
        squares: sum of squared differences from the mean.
        histogram: how many values fall into each bin of `histogram_axis`.
    """

    count: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf
    mean: float = 0.0
    squares: float = 0.0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Take in values of any shape."""
        if not values.size:
            return
        histogram = _histogram(values)
        self.histogram = histogram if not self.count else self.histogram + histogram
        self.minimum, self.maximum = min(self.minimum, float(values.min())), max(self.maximum, float(values.max()))
        exact = values.astype(np.float64).reshape(-1)
        mean, total = float(exact.mean()), self.count + exact.size
        exact -= mean
        difference = mean - self.mean
        self.squares += float(exact @ exact) + difference**2 * self.count * exact.size / total
        self.mean += difference * exact.size / total
        self.count = total


@final
class Statistics:
    """Statistics of many runs of frames.

    Example:
        >>> statistics = Statistics()
        >>> statistics.add({"bsm": np.array([[[0, 0, 3], [2, 0, 3]]], np.uint8)})
        >>> statistics.short_shares, statistics.frames
        ({'low': 0.5, 'mid': 0.0, 'high': 1.0}, 2)
    """

    def __init__(self) -> None:
        self.fields: dict[str, FieldStatistics] = {}
        """By name."""
        self.frames = 0
        """Frames, each channel counted."""
        self._short = np.zeros(3, np.int64)

    def add(self, run: Mapping[str, NDArray[Any]]) -> None:
        """Take in a run, each field [C, F, *shape]."""
        self.frames += int(np.prod(next(iter(run.values())).shape[:2]))
        for name, values in run.items():
            self.fields.setdefault(name, FieldStatistics()).add(values)
        if "bsm" in run:
            self._short += (run["bsm"] > 0).sum((0, 1))

    @property
    def short_shares(self) -> dict[str, float]:
        """Share of frames with short blocks, by band; empty if `bsm` was not measured."""
        return dict(zip(BANDS, (self._short / max(self.frames, 1)).tolist())) if "bsm" in self.fields else {}

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, histograms too, as JSON holds them."""
        return {
            "frames": self.frames,
            "short_shares": self.short_shares,
            "fields": {
                name: {
                    "count": one.count,
                    "min": one.minimum,
                    "max": one.maximum,
                    "mean": one.mean,
                    "std": one.deviation,
                    "histogram": one.histogram.tolist(),
                }
                for name, one in self.fields.items()
            },
        }


def measure(runs: Iterable[Frames]) -> Statistics:
    """Take in all runs, as `FrameDataset.runs` gives them."""
    statistics = Statistics()
    for run in runs:
        statistics.add(run)
    return statistics


def histogram_axis(name: str) -> tuple[NDArray[np.float64], str]:
    """Return the left edges of the bins of a field's histogram, and what they are.

    Floats are counted by level, in steps of 2 dB; whole numbers of 8 bits each for itself; those of 16 bits by
    magnitude: 0, then from each power of two to below the next.
    """
    dtype = FIELDS[name].dtype
    if dtype.kind == "f":
        return LEVELS, "20 log10 |value|, dB"
    if dtype.itemsize == 1:
        return np.arange(256.0), "value"
    return np.concatenate([[0.0], 2.0 ** np.arange(16)]), "|value|"


def _histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    flat = values.reshape(-1)
    if flat.dtype.kind == "f":
        with np.errstate(divide="ignore"):
            levels = 20.0 * np.log10(np.abs(flat))
        bins = np.floor((levels - np.float32(LEVELS[0])) / np.float32(2.0)).clip(0, len(LEVELS) - 1)
        return np.bincount(bins.astype(np.int64), minlength=len(LEVELS)).astype(np.int64)
    if flat.dtype.itemsize == 1:
        return np.bincount(flat, minlength=256).astype(np.int64)
    return np.bincount(np.frexp(np.abs(flat.astype(np.float32)))[1].clip(0, 16), minlength=17).astype(np.int64)
