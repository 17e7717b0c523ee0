"""Normalization: fields brought to zero mean and unit deviation, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import write_whole
from atrac_data.errors import DataError
from atrac_data.statistics import FieldStatistics

T = TypeVar("T", NDArray[np.floating], Tensor)


@final
@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each field: one number each, so that ratios within a field stay as they are.

    Args:
        mean, deviation: by field name. A deviation of 0 (a field that never changes) counts as 1.

    Example:
        >>> normalization = Normalization({"pcm": 0.5}, {"pcm": 2.0})
        >>> normalization.normalize("pcm", np.array([4.5], np.float32))
        array([2.], dtype=float32)
        >>> normalization.denormalize("pcm", np.array([2.0], np.float32))
        array([4.5], dtype=float32)
    """

    mean: Mapping[str, float]
    deviation: Mapping[str, float]

    @classmethod
    def of(cls, statistics: Mapping[str, FieldStatistics]) -> Self:
        """Take mean and deviation of every field that was measured; measure the train split only."""
        fields = statistics.items()
        return cls({name: one.mean for name, one in fields}, {name: one.deviation for name, one in fields})

    def normalize(self, field: str, values: T) -> T:
        """Return (values - mean) / deviation.

        Dtype: floating ones are kept; integers become what NumPy or torch make of integer - float.
        Raises: KeyError: the field was not measured.
        """
        return (values - self.mean[field]) / self._scale(field)

    def denormalize(self, field: str, values: T) -> T:
        """Undo `normalize`."""
        return values * self._scale(field) + self.mean[field]

    def _scale(self, field: str) -> float:
        return self.deviation[field] or 1.0

    def save(self, path: str | Path) -> None:
        """Write it as JSON. Raises: OSError."""
        text = json.dumps({"mean": dict(self.mean), "deviation": dict(self.deviation)}, indent=1) + "\n"
        write_whole(path, text.encode())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises: DataError: it is something else; OSError."""
        try:
            read = json.loads(Path(path).read_bytes())
            mean, deviation = ({str(k): float(v) for k, v in read[name].items()} for name in ("mean", "deviation"))
            if mean.keys() != deviation.keys() or not np.isfinite([*mean.values(), *deviation.values()]).all():
                raise ValueError(f"{read}, allowed finite numbers of the same fields")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path}: no normalization: {error!r}") from error
        return cls(mean, deviation)
