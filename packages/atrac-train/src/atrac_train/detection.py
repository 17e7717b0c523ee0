"""How well rare decisions are found: hits, false alarms and misses, precision, recall and F1."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def count(found: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Count hits, false alarms and misses. Shape: bool [*, n] each -> float64 [n] each."""
    counts = {"hit": found & truth, "false alarm": found & ~truth, "miss": ~found & truth}
    return {name: which.flatten(0, -2).sum(0).double() for name, which in counts.items()}


def rates(hit: float, false_alarm: float, miss: float) -> dict[str, float]:
    """Return F1, precision and recall; 0 where nothing was there to be found, or nothing was found.

    Example:
        >>> rates(3, 1, 1)
        {'F1': 0.75, 'precision': 0.75, 'recall': 0.75}
    """
    return {
        "F1": 2 * hit / max(2 * hit + false_alarm + miss, 1),
        "precision": hit / max(hit + false_alarm, 1),
        "recall": hit / max(hit + miss, 1),
    }


def band_rates(counts: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return the rates of each band, low, mid and high, and how often there was something to find (`positives`)."""
    found = {}
    for band, name in enumerate(("low", "mid", "high")):
        hit, false_alarm, miss = (float(counts[key][band]) for key in ("hit", "false alarm", "miss"))
        found[name] = rates(hit, false_alarm, miss) | {"positives": hit + miss}
    return found
