"""The results of an evaluation, and evaluation.json, which holds them.

A number that is not finite, or that could not be measured, is null. Lists by band go low, mid, high; lists by BFU have
52 entries.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from atrac_train.tracking import write_json

SCHEMA: Final = "atrac-evaluation/2"
ALL: Final = "all"
"""Kind of a summary over the recordings of all kinds."""


@dataclass(frozen=True)
class Settings:
    """The settings of an evaluation, and the versions of the packages that measured.

    Args:
        split: which recordings of the folder.
        shortest, longest: seconds that a recording must have, and that are taken of it; 0 for all.
        encoders, decoders: presets, codec folders and names, as given.
        peers, judges: outside programs, name to command.
        versions: of packages and Python.
    """

    split: str
    shortest: float
    longest: float
    encoders: list[str]
    decoders: list[str]
    peers: dict[str, str]
    judges: dict[str, str]
    versions: dict[str, str]


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


@dataclass(frozen=True)
class Bits:
    """How an encoder spends the bits of its sound units.

    Args:
        units: number of sound units.
        over_budget: those whose values take more bits than an encoder may fill.
        used, budget: bits of values, and how many there may be; mean over units.
        n_bfu: mean.
        short_share: share of units with short blocks, by band.
        word_length: bits per value, by BFU; mean over units, 0 where a unit does not carry the BFU.
    """

    units: int
    over_budget: int
    used: float
    budget: float
    n_bfu: float
    short_share: list[float]
    word_length: list[float]


@dataclass(frozen=True)
class Row:
    """A recording by an encoder and a decoder.

    Args:
        scores: by name; the measures of speech are there for speech only.
        missing: name of each score that is null to the reason.
        bits: None if the file could not be written or read.
        error: message of the encoder or decoder that failed; there are no scores then.
    """

    recording: str
    encoder: str
    decoder: str
    scores: dict[str, float | None]
    missing: dict[str, str]
    bits: Bits | None
    error: str | None


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


@dataclass(frozen=True)
class Evaluation:
    """All results.

    Args:
        scores: name of each score to whether `more` or `less` of it is better.
        bits: of each encoder, over all recordings.
    """

    settings: Settings
    scores: dict[str, str]
    recordings: list[Item]
    rows: list[Row]
    bits: dict[str, Bits]
    summary: list[Summary]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Encoder and decoder, in the order of the rows; the others are compared with the first."""
        return list(dict.fromkeys((row.encoder, row.decoder) for row in self.rows))

    @property
    def labels(self) -> dict[tuple[str, str], str]:
        """Names of the pairs, see `labels`."""
        return labels(self.pairs)

    def of(self, kind: str, score: str) -> dict[tuple[str, str], Summary]:
        """Return a score's summaries by pair; there are none if no recording has it from all pairs."""
        return {(one.encoder, one.decoder): one for one in self.summary if (one.kind, one.score) == (kind, score)}

    @property
    def kinds(self) -> list[str]:
        """Kinds of content that have summaries, `all` first."""
        return list(dict.fromkeys(one.kind for one in self.summary))

    def write(self, path: Path) -> None:
        """Write JSON, whole or not at all. Raises: OSError."""
        write_json(path, {"schema": SCHEMA} | asdict(self))


def labels(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Name pairs of encoder and decoder: by the encoder alone if all have the same decoder.

    Example:
        >>> labels([("reference", "ffmpeg"), ("rd", "ffmpeg")])
        {('reference', 'ffmpeg'): 'reference', ('rd', 'ffmpeg'): 'rd'}
    """
    alone = len({decoder for _, decoder in pairs}) == 1
    return {(encoder, decoder): encoder if alone else f"{encoder} to {decoder}" for encoder, decoder in pairs}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that code and measure."""
    names = "atrac-bitstream", "atrac-losses", "atrac-modules", "atrac-codec", "atrac-data", "torch", "numpy", "av"
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
