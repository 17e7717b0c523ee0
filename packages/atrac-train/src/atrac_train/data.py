"""What a training reads: batches of the train split, whole runs of the others, and the built-in corpus in shards."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atrac_bitstream import write_whole
from atrac_data import (
    NAMES,
    SPLITS,
    Augmentation,
    BuiltinTeacher,
    DataError,
    FrameDataset,
    Settings,
    Shard,
    corpus_manifest,
    extract,
    find_shards,
    frame_loader,
    write_corpus,
)
from atrac_train.settings import DataSettings

Batch = dict[str, Tensor]
"""Field name to tensor."""


def derived_seed(*parts: object) -> int:
    """Return a seed of 63 bits that the parts fix, equal on all machines."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class TrainingData:
    """The three splits of a folder of shards, with what an objective reads of them.

    Args:
        folder: of shards, with a folder for each split.
        settings: batch size, shuffling, workers, and whether validation and test lie elsewhere.
        fields: names of the fields to read.
        frames: successive frames of an item of a training batch, 1 .. 64.
        seed: of order and drawing.
        rank, world: this process's number, and how many share the runs that are evaluated.

    Raises:
        DataError: a split has no shards, or a shard lacks a field; it is named.
        ValueError: a field is unknown.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: DataSettings,
        fields: Sequence[str],
        frames: int = 1,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.folder, self._settings, self._fields, self._frames = Path(folder), settings, tuple(fields), frames
        self._seed, self._rank, self._world = seed, rank, world
        other = Path(settings.evaluation) if settings.evaluation else self.folder
        folders = {split: (self.folder if split == "train" else other) / split for split in SPLITS}
        self._splits = {split: FrameDataset(folder, self._fields) for split, folder in folders.items()}

    def training_batches(self, epoch: int, steps: int) -> Iterator[Batch]:
        """Yield as many batches as asked for, which seed, epoch and rank fix.

        Shape: each field [B, F, *shape]
        Raises: DataError
        """
        batches = frame_loader(
            self.folder / "train",
            self._settings.batch_size,
            self._fields,
            frames=self._frames,
            workers=self._settings.workers,
            shuffle=self._settings.shuffle,
            seed=derived_seed(self._seed, epoch) % 2**32,
            resampled_batches=steps,
        )
        for batch in batches:
            yield batch if self._frames > 1 else {name: field.unsqueeze(1) for name, field in batch.items()}

    def runs(self, split: str) -> Iterator[tuple[int, Batch]]:
        """Yield the runs of a split that fall to this rank, each with its number.

        Shape: each field [C, F, *shape]
        Raises: DataError
        """
        for number, run in enumerate(self._splits[split].runs()):
            if number % self._world == self._rank:
                yield number, {name: torch.from_numpy(np.array(array)) for name, array in run.items()}

    def some_runs(self, split: str, count: int) -> list[tuple[int, Batch]]:
        """Return a few runs spread over a split, the same on each rank. Raises: DataError."""
        total = sum(1 for _ in self._splits[split].runs())
        chosen = {place * total // count for place in range(count)}
        runs = enumerate(self._splits[split].runs())
        return [(n, {name: torch.from_numpy(np.array(a)) for name, a in run.items()}) for n, run in runs if n in chosen]

    def about(self) -> dict[str, Any]:
        """Say what the train split holds: teacher, recordings by licence, frames of one channel."""
        shards = [Shard(path) for path in find_shards(self.folder / "train")]
        runs = [run for shard in shards for run in shard.runs]
        licences = sorted({run.licence for run in runs})
        return {
            "teacher": sorted({str(shard.about.get("teacher", "unknown")) for shard in shards}),
            "recordings": {one: sorted({run.recording for run in runs if run.licence == one}) for one in licences},
            "frames": sum(run.channels * run.frames for run in runs),
        }


def corpus_shards(
    output: Path,
    settings: DataSettings,
    fields: Iterable[str],
    progress: Callable[[float], None] = lambda seconds: None,
) -> Path:
    """Render the built-in corpus and have it explained by the built-in teacher; what is done already is kept.

    Args:
        output: folder; a folder of shards comes into it, and recordings for as long as they are needed.
        settings: the sounds and their length.
        fields: names of the fields to write.
        progress: is told the seconds of each finished recording.

    Returns:
        The folder of shards.

    Raises:
        AtracError, OSError: the folder holds shards of other sounds, lengths or fields, or cannot be written.
    """
    shards, recordings = output / "shards", output / "corpus"
    done = shards / "corpus.json"
    written = tuple(sorted(fields))
    wanted = {
        "sounds": list(settings.sounds),
        "seconds": settings.seconds,
        "variants": settings.variants,
        "gain": list(settings.gain),
        "fields": list(written),
    }
    if done.exists():
        if json.loads(done.read_text()) != wanted:
            raise DataError(f"{shards}: of {done.read_text()}, not {json.dumps(wanted)}; remove it or choose another")
        return shards
    sounds = settings.sounds or NAMES
    write_corpus(recordings, seconds=settings.seconds, names=sounds)
    # A shard of each recording, so that those of different sounds are drawn after one another.
    change = Augmentation(offset=settings.variants > 1, gain=settings.gain)
    about = Settings(written, settings.seconds / 2, change, settings.variants)
    extract(corpus_manifest(recordings, names=sounds), BuiltinTeacher(), shards, about, progress=progress)
    write_whole(done, json.dumps(wanted).encode())
    shutil.rmtree(recordings)
    return shards
