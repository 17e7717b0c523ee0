"""Recordings to evaluate: those of a split of a folder, cut into runs of whole frames where a codec needs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import track

from atrac_data import Recording, scan

ALL_SPLITS: Final = "all"
_Item = TypeVar("_Item")


def of_split(folder: Path, split: str) -> tuple[Recording, ...]:
    """List the recordings of a split, or of all. Raises: ValueError: there are none; AtracError, OSError."""
    manifest = scan(folder)
    chosen = manifest.recordings if split == ALL_SPLITS else manifest.of(split)
    if not chosen:
        raise ValueError(f"{folder}: no recordings of split {split}")
    return chosen


def tracked(items: Sequence[_Item], description: str) -> Iterable[_Item]:
    """Yield the items and show on a terminal how many are done."""
    console = Console(stderr=True)
    return track(items, description, console=console, transient=True, disable=not console.is_terminal)
