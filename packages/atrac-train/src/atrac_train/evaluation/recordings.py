"""Recordings to evaluate: those of a split of a folder, cut into runs of whole frames where a codec needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from atrac_bitstream import frames_for
from atrac_bitstream.tables import FRAME_SAMPLES
from atrac_codec.stream import CHUNK_FRAMES
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


def tracked(items: Sequence[_Item], description: str) -> Iterator[_Item]:
    """Yield the items and show on a terminal how many are done."""
    columns, console = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()), Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, description=description)


def runs(blocks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Cut samples into runs of whole frames, and append the silence after which a codec has returned them all.

    Shape: blocks [C, n] each -> [C, 512 F], and how many samples have come so far
    """
    size, samples, done = CHUNK_FRAMES * FRAME_SAMPLES, 0, 0
    waiting: NDArray[np.float32] | None = None
    for block in blocks:
        waiting = block if waiting is None else np.concatenate([waiting, block], 1)
        samples += block.shape[1]
        while waiting.shape[1] >= size:
            yield np.ascontiguousarray(waiting[:, :size]), samples
            waiting, done = waiting[:, size:], done + size
    if waiting is not None and samples:
        missing = frames_for(samples, multiple=1) * FRAME_SAMPLES - done - waiting.shape[1]
        yield np.pad(waiting, ((0, 0), (0, missing))), samples
