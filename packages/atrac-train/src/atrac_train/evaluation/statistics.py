"""Means over recordings with bootstrap intervals, and the recordings in which one pair is better than another.

The bootstrap draws whole recordings, because the frames of a recording are not independent samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from atrac_train.evaluation.kinds import UNNAMED
from atrac_train.evaluation.results import ALL, Bits, Interval, Item, Row, Summary

DRAWS: Final = 2000
SEED: Final = 0
SHARE: Final = 95.0
"""Share of the draws whose means lie in the interval, %."""


def interval(values: Sequence[float]) -> Interval:
    """Return the mean, and the interval in which the means of samples drawn with replacement lie (percentiles).

    Raises: ValueError: there are no values.

    Example:
        >>> interval([2.0, 2.0])
        Interval(mean=2.0, low=2.0, high=2.0)
    """
    if not values:
        raise ValueError("no values, allowed one or more")
    numbers = np.asarray(values, np.float64)
    drawn = np.random.default_rng(SEED).integers(len(numbers), size=(DRAWS, len(numbers)))
    low, high = np.percentile(numbers[drawn].mean(1), [50 - SHARE / 2, 50 + SHARE / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def summarise(rows: Sequence[Row], items: Iterable[Item], signs: Mapping[str, int]) -> list[Summary]:
    """Summarise each score of each pair of encoder and decoder, over all recordings and by kind.

    Args:
        rows: all rows; the other pairs are compared with the pair of the first row.
        items: the recordings.
        signs: name of a score to 1 if more is better, -1 if less is better.
    """
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row.encoder, row.decoder), {})[row.recording] = row
    kinds: dict[str, list[str]] = {ALL: []}
    for item in sorted(items, key=lambda item: item.kind):
        kinds[ALL].append(item.path)
        if item.kind != UNNAMED:
            kinds.setdefault(item.kind, []).append(item.path)
    return [
        summary
        for kind, recordings in kinds.items()
        for score, sign in signs.items()
        for summary in _of_score(found, kind, recordings, score, sign)
    ]


def _of_score(
    found: Mapping[tuple[str, str], Mapping[str, Row]], kind: str, recordings: Sequence[str], score: str, sign: int
) -> Iterable[Summary]:
    columns = {
        pair: {name: value for name in recordings if (value := own[name].scores.get(score)) is not None}
        for pair, own in found.items()
    }
    first = next(iter(columns))
    columns = {pair: own for pair, own in columns.items() if own}
    common = [name for name in recordings if all(name in own for own in columns.values())]
    if not common:
        return
    for pair, own in columns.items():
        others = pair != first and first in columns
        gains = {name: own[name] - columns[first][name] for name in common} if others else {}
        yield Summary(
            *pair,
            kind,
            score,
            len(common),
            interval([own[name] for name in common]),
            interval(list(gains.values())) if others else None,
            [name for name, gain in gains.items() if sign * gain > 0],
            [name for name, gain in gains.items() if gain == 0],
            [name for name, gain in gains.items() if sign * gain < 0],
        )


def bits_by_encoder(rows: Iterable[Row]) -> dict[str, Bits]:
    """Combine the bit statistics of each encoder's recordings."""
    found: dict[str, dict[str, Bits]] = {}
    for row in rows:
        if row.bits:
            found.setdefault(row.encoder, {})[row.recording] = row.bits
    return {encoder: total_bits(list(own.values())) for encoder, own in found.items()}


def total_bits(counts: Sequence[Bits]) -> Bits:
    """Combine the bit statistics of one or more recordings: sums of units, means over all units."""
    units = [one.units for one in counts]

    def mean(values: Sequence[float]) -> float:
        return math.fsum(n * value for n, value in zip(units, values)) / sum(units)

    return Bits(
        sum(units),
        sum(one.over_budget for one in counts),
        mean([one.used for one in counts]),
        mean([one.budget for one in counts]),
        mean([one.n_bfu for one in counts]),
        [mean(band) for band in zip(*(one.short_share for one in counts))],
        [mean(bfu) for bfu in zip(*(one.word_length for one in counts))],
    )
