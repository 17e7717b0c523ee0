"""Means over recordings with bootstrap intervals, and the recordings in which one pair is better than another.

The bootstrap draws whole recordings, because the frames of a recording are not independent samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

DRAWS: Final = 2000
SEED: Final = 0
SHARE: Final = 95.0
"""Share of the draws whose means lie in the interval, %."""
Scores = Mapping[str, float | None]
"""Score by recording, None where it could not be measured; recordings may be absent."""


@dataclass(frozen=True)
class Interval:
    """A mean over recordings and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """One score of an encoder and a decoder, over the recordings of a kind for which all pairs have it.

    A pair without any score there is left out, so that the others can be compared.

    Args:
        kind: of content, or `all`.
        recordings: how many.
        difference: to the first pair, recording by recording; None for the first pair itself, or if it is left out.
        better, equal, worse: recordings in which the pair is better than the first one, equal to it, or worse.
    """

    encoder: str
    decoder: str
    kind: str
    score: str
    recordings: int
    value: Interval
    difference: Interval | None
    better: list[str]
    equal: list[str]
    worse: list[str]


def interval(values: ArrayLike) -> Interval:
    """Return the mean, and the interval in which the means of samples drawn with replacement lie (percentiles).

    Raises: ValueError: there are no values.

    Example:
        >>> interval([2.0, 2.0])
        Interval(mean=2.0, low=2.0, high=2.0)
    """
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        raise ValueError("no values, allowed one or more")
    drawn = np.random.default_rng(SEED).integers(len(numbers), size=(DRAWS, len(numbers)))
    low, high = np.percentile(numbers[drawn].mean(1), [50 - SHARE / 2, 50 + SHARE / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def summarise(
    pairs: Mapping[tuple[str, str], Scores], recordings: Sequence[str], kind: str, score: str, better: str
) -> Iterator[Summary]:
    """Summarise one score of all pairs of encoder and decoder over the recordings of a kind.

    Args:
        pairs: the score of each pair; the other pairs are compared with the first.
        recordings: those of the kind.
        kind, score: names for the summaries.
        better: `more` or `less`.
    """
    first = next(iter(pairs))
    measured = {pair: [name for name in recordings if own.get(name) is not None] for pair, own in pairs.items()}
    columns = {pair: pairs[pair] for pair, names in measured.items() if names}
    common = [name for name in recordings if all(name in measured[pair] for pair in columns)]
    values = {pair: np.array([own[name] for name in common], np.float64) for pair, own in columns.items() if common}
    sign = 1 if better == "more" else -1
    for pair, own in values.items():
        gains = sign * (own - values[first]) if pair != first and first in values else np.array([])
        signs = list(zip(common, np.sign(gains)))
        yield Summary(
            *pair,
            kind,
            score,
            len(common),
            interval(own),
            interval(sign * gains) if gains.size else None,
            *([name for name, one in signs if one == kept] for kept in (1, 0, -1)),
        )
