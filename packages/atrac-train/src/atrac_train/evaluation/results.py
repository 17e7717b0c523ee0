"""The results of an evaluation, and evaluation.json, which holds them.

A number that is not finite, or that could not be measured, is null. Lists by band go low, mid, high; lists by BFU have
52 entries.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from atrac_train.evaluation.bits import Bits, total_bits
from atrac_train.evaluation.kinds import ALL, UNNAMED
from atrac_train.evaluation.statistics import Summary, summarise
from atrac_train.tracking import write_json

SCHEMA: Final = "atrac-evaluation/2"
Pair = tuple[str, str]
"""Names of an encoder and a decoder."""


@dataclass(frozen=True)
class Item:
    """A recording, as far as it was used.

    Args:
        path: relative to the folder; it names the recording.
        kind: of content, as kinds.json states it, or `unnamed`.
    """

    path: str
    seconds: float
    channels: int
    kind: str


@dataclass
class Row:
    """A recording by an encoder and a decoder; filled in while it is measured.

    Args:
        scores: by name; the measures of speech are there for speech only.
        missing: name of each score that is null to the reason.
        bits: None if the file could not be written or read.
        error: message of the encoder or decoder that failed; there are no scores then.
    """

    recording: str
    encoder: str
    decoder: str
    scores: dict[str, float | None] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    bits: Bits | None = None
    error: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """All results.

    Args:
        settings: options of the command, encoders, decoders, commands of outside programs, and versions of packages.
        scores: name of each score to whether `more` or `less` of it is better.
        bits: of each encoder, over all recordings.
    """

    settings: dict[str, Any]
    scores: dict[str, str]
    recordings: list[Item]
    rows: list[Row]
    bits: dict[str, Bits]
    summary: list[Summary]

    @property
    def labels(self) -> dict[Pair, str]:
        """Names of the pairs in the order of the rows, see `labels`; the others are compared with the first."""
        return labels((row.encoder, row.decoder) for row in self.rows)

    def of(self, kind: str, score: str) -> dict[Pair, Summary]:
        """Return a score's summaries by pair; there are none if no recording has it from all pairs."""
        return {(one.encoder, one.decoder): one for one in self.summary if (one.kind, one.score) == (kind, score)}

    @property
    def kinds(self) -> list[str]:
        """Kinds of content that have summaries, `all` first."""
        return list(dict.fromkeys(one.kind for one in self.summary))

    def write(self, path: Path) -> None:
        """Write JSON, whole or not at all. Raises: OSError."""
        write_json(path, {"schema": SCHEMA} | asdict(self))


def summed_up(
    settings: dict[str, Any], scores: dict[str, str], recordings: Sequence[Item], rows: Sequence[Row]
) -> Evaluation:
    """Return an evaluation with the summaries of the rows, over all recordings and by kind, and of the bits."""
    by_pair: dict[Pair, dict[str, Row]] = {}
    files: dict[str, dict[str, Bits]] = {}
    for row in rows:
        by_pair.setdefault((row.encoder, row.decoder), {})[row.recording] = row
        if row.bits:
            files.setdefault(row.encoder, {})[row.recording] = row.bits
    kinds: dict[str, list[str]] = {ALL: []}
    for item in sorted(recordings, key=lambda item: item.kind):
        for kind in {ALL, item.kind} - {UNNAMED}:
            kinds.setdefault(kind, []).append(item.path)
    summary: list[Summary] = []
    for kind, names in kinds.items():
        for score, better in scores.items():
            columns = {
                pair: {name: row.scores.get(score) for name, row in own.items()} for pair, own in by_pair.items()
            }
            summary += summarise(columns, names, kind, score, better)
    bits = {encoder: total_bits(list(own.values())) for encoder, own in files.items()}
    return Evaluation(settings, scores, [*recordings], [*rows], bits, summary)


def labels(pairs: Iterable[Pair]) -> dict[Pair, str]:
    """Name pairs of encoder and decoder: by the encoder alone if all have the same decoder.

    Example:
        >>> labels([("reference", "ffmpeg"), ("rd", "ffmpeg")])
        {('reference', 'ffmpeg'): 'reference', ('rd', 'ffmpeg'): 'rd'}
    """
    different = list(dict.fromkeys(pairs))
    alone = len({decoder for _, decoder in different}) == 1
    return {(encoder, decoder): encoder if alone else f"{encoder} to {decoder}" for encoder, decoder in different}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that code and measure."""
    names = "atrac-bitstream", "atrac-losses", "atrac-modules", "atrac-codec", "atrac-data", "torch", "numpy", "av"
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
