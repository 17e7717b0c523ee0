"""What an evaluation leaves: evaluation.json, in one schema.

A number that is not finite, or that could not be had, is null. Lists by band go low, mid, high; lists by BFU have 52.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from atrac_codec.checkpoint import write_whole
from atrac_train.tracking import plain

SCHEMA: Final = "atrac-evaluation/1"
ALL: Final = "all"
"""Stands for all kinds of content together."""
_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class Settings:
    """What was asked for, and what answered.

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


@dataclass(frozen=True, config=_STRICT)
class Item:
    """A recording, as far as it was taken.

    Args:
        path: relative to the folder; it names the recording.
        kind: of content.
        kind_from: `file` if somebody said so, `guess` if it was heard by rule.
    """

    path: str
    seconds: float
    channels: int
    kind: str
    kind_from: Literal["file", "guess"]


@dataclass(frozen=True, config=_STRICT)
class Bits:
    """What an encoder does with the bits of its sound units.

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


@dataclass(frozen=True, config=_STRICT)
class Row:
    """A recording by an encoder and a decoder.

    Args:
        scores: by name; those of speech are there for speech only.
        missing: why a score is null, by name.
        bits: none if the file could not be made or read.
        error: what went wrong with encoder or decoder; there are no scores then.
    """

    recording: str
    encoder: str
    decoder: str
    scores: dict[str, float | None]
    missing: dict[str, str]
    bits: Bits | None
    error: str | None


@dataclass(frozen=True, config=_STRICT)
class Interval:
    """A mean over recordings and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, config=_STRICT)
class Summary:
    """One score of an encoder and a decoder, over the recordings of a kind for which all pairs have it.

    A pair without any score there is left out, so that the others can be compared.

    Args:
        kind: of content, or `all`.
        recordings: how many.
        difference: to the first pair, recording by recording; none for the first pair itself, or if it is left out.
        better, equal, worse: recordings in which it is better than the first pair, and so on.
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


@dataclass(frozen=True, config=_STRICT)
class Evaluation:
    """All of it.

    Args:
        schema: `SCHEMA`.
        scores: name of each score, and whether `more` or `less` of it is better.
        bits: of each encoder, over all recordings.
    """

    schema: Literal["atrac-evaluation/1"]
    settings: Settings
    scores: dict[str, Literal["more", "less"]]
    recordings: list[Item]
    rows: list[Row]
    bits: dict[str, Bits]
    summary: list[Summary]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Encoder and decoder, in the order of the rows; the first is what others are held against."""
        return list(dict.fromkeys((row.encoder, row.decoder) for row in self.rows))

    @property
    def labels(self) -> dict[tuple[str, str], str]:
        """What pairs are called."""
        return labels(self.pairs)

    def of(self, kind: str, score: str) -> dict[tuple[str, str], Summary]:
        """Return a score's summaries by pair; there are none if no recording has it from all pairs."""
        return {(one.encoder, one.decoder): one for one in self.summary if (one.kind, one.score) == (kind, score)}

    @property
    def kinds(self) -> list[str]:
        """Kinds that there are, `all` first."""
        return list(dict.fromkeys([ALL, *sorted(item.kind for item in self.recordings)]))

    def write(self, path: Path) -> None:
        """Write JSON, whole or not at all. Raises: OSError."""
        text = json.dumps(plain(asdict(self)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(path, text.encode())


def read_evaluation(path: Path) -> Evaluation:
    """Read what `Evaluation.write` wrote. Raises: OSError; ValueError: it is something else."""
    return TypeAdapter(Evaluation).validate_json(path.read_bytes(), strict=True)


def labels(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return what pairs of encoder and decoder are called: by the encoder alone if all have one decoder.

    Example:
        >>> labels([("reference", "ffmpeg"), ("rd", "ffmpeg")])
        {('reference', 'ffmpeg'): 'reference', ('rd', 'ffmpeg'): 'rd'}
    """
    alone = len({decoder for _, decoder in pairs}) == 1
    return {(encoder, decoder): encoder if alone else f"{encoder} to {decoder}" for encoder, decoder in pairs}


def versions() -> dict[str, str]:
    """Return the versions of what measures, of packages that are installed."""
    names = "atrac-bitstream", "atrac-losses", "atrac-modules", "atrac-codec", "atrac-data", "torch", "numpy", "av"
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
