"""Statistics of ground truth: count, range, mean and standard deviation of each field, for normalization."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from atrac_data.fields import Frames


@final
@dataclass
class FieldStatistics:
    """Statistics of the values of one field.

    Args:
        count: number of values.
        minimum, maximum, mean: of the values.
        squares: sum of squared differences from the mean.

    Example:
        >>> statistics = FieldStatistics()
        >>> statistics.add(np.array([1.0, 3.0]))
        >>> statistics.add(np.array([[2.0]]))
        >>> statistics.count, statistics.mean, round(statistics.deviation, 4)
        (3, 2.0, 0.8165)
    """

    count: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf
    mean: float = 0.0
    squares: float = 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Take in values of any shape."""
        if not values.size:
            return
        exact = values.astype(np.float64).reshape(-1)
        self.minimum, self.maximum = min(self.minimum, float(exact.min())), max(self.maximum, float(exact.max()))
        mean, total = float(exact.mean()), self.count + exact.size
        exact -= mean
        difference = mean - self.mean
        self.squares += float(exact @ exact) + difference**2 * self.count * exact.size / total
        self.mean += difference * exact.size / total
        self.count = total


def measure(runs: Iterable[Frames]) -> dict[str, FieldStatistics]:
    """Return the statistics of every field of some runs, as `FrameDataset.runs` gives them."""
    statistics: dict[str, FieldStatistics] = defaultdict(FieldStatistics)
    for run in runs:
        for name, values in run.items():
            statistics[name].add(values)
    return dict(statistics)
