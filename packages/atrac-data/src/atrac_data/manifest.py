"""Manifests: which recordings there are, which split each belongs to, under which licence it may be used.

Splits go by whole recordings. A file `split.json` in the folder, path to split, decides where it names a recording;
any other goes by a hash of its path, so adding files moves none. A file `licences.json`, pattern to licence, names
licences; the first pattern that fits counts.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atrac_codec.audio import SUFFIXES
from atrac_data.errors import DataError

SPLITS: Final = ("train", "validation", "test")
SPLIT_FILE: Final = "split.json"
LICENCE_FILE: Final = "licences.json"
UNKNOWN: Final = "unknown"
_SHARES: Final = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Recording:
    """One recording.

    Args:
        path: relative to the folder, with forward slashes; it names the recording.
        split: `train`, `validation` or `test`.
        licence: as `licences.json` has it, else `unknown`.
    """

    path: str
    split: str
    licence: str = UNKNOWN

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that stand for the path in shards."""
        return hashlib.sha256(self.path.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Manifest:
    """The recordings of a folder.

    Args:
        folder: where they lie.
        recordings: one of each path.

    Raises:
        DataError: a path comes twice, or a split is unknown.
    """

    folder: Path
    recordings: tuple[Recording, ...]

    def __post_init__(self) -> None:
        keys = set()
        for recording in self.recordings:
            if recording.split not in SPLITS:
                raise DataError(f"{recording.path}: split {recording.split!r}, allowed {', '.join(SPLITS)}")
            if recording.key in keys:
                raise DataError(f"{recording.path}: each recording allowed once")
            keys.add(recording.key)

    def of(self, split: str) -> tuple[Recording, ...]:
        """Return the recordings of a split."""
        return tuple(recording for recording in self.recordings if recording.split == split)


def scan(
    folder: str | Path,
    suffixes: Collection[str] = SUFFIXES,
    *,
    split_file: str | Path | None = None,
    licence_file: str | Path | None = None,
) -> Manifest:
    """Find the recordings of a folder and all below it, in the order of their paths.

    Args:
        folder: where to look. Names that begin with a dot are passed over.
        suffixes: endings of audio files, like `.wav`, in lower case; default: all that can be read.
        split_file, licence_file: default: `split.json` and `licences.json` in the folder, if they are there.

    Raises:
        DataError: there is none; or a split or licence file is no such file, or names what it may not.
        OSError: the folder or a file cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    paths = sorted(
        path.as_posix()
        for path in (found.relative_to(folder) for found in folder.rglob("*") if found.is_file())
        if path.suffix.lower() in suffixes and not any(part.startswith(".") for part in path.parts)
    )
    if not paths:
        raise DataError(f"{folder}: no recordings, allowed files ending in {', '.join(sorted(suffixes))}")
    splits = _read(split_file, folder / SPLIT_FILE)
    licences = _read(licence_file, folder / LICENCE_FILE)
    known = set(paths)
    for path, split in splits.items():
        if path not in known or split not in SPLITS:
            reason = f"allowed {', '.join(SPLITS)}" if path in known else "there is no such recording"
            raise DataError(f"{split_file or folder / SPLIT_FILE}: {path} is in split {split!r}, {reason}")
    return Manifest(
        folder, tuple(Recording(path, splits.get(path) or split_of(path), _licence(path, licences)) for path in paths)
    )


def split_of(path: str) -> str:
    """Choose a split by a hash of the path: 80 % train, 10 % validation, 10 % test.

    Example:
        >>> [split_of(f"{i}.wav") for i in range(4)]
        ['train', 'validation', 'train', 'train']
    """
    place = int.from_bytes(hashlib.sha256(f"atrac-data/split/{path}".encode()).digest()[:8], "big") / 2**64
    for split, share in zip(SPLITS, _SHARES, strict=True):
        if place < share:
            return split
        place -= share
    return SPLITS[-1]


def _licence(path: str, licences: Mapping[str, str]) -> str:
    return next((licence for pattern, licence in licences.items() if fnmatch.fnmatchcase(path, pattern)), UNKNOWN)


def _read(chosen: str | Path | None, default: Path) -> dict[str, str]:
    """Read an object of strings from the chosen file, or from the default one if it is there."""
    if chosen is None and not default.exists():
        return {}
    file = Path(chosen or default)
    try:
        values: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
            raise ValueError(f"{wrong[0]} is {values[wrong[0]]!r}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{file}: allowed a JSON object of strings: {error}") from error
    return values
