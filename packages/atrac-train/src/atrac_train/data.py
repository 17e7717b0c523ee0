"""What a training reads: examples of the train split, of the others, and the built-in corpus in shards."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate.utils import gather_object
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
from atrac_train.objective import Objective, Scores, Tensors
from atrac_train.settings import DataSettings, TrainingSettings

Batch = dict[str, Tensor]
"""Field name to tensor."""
CALIBRATION_RUNS: Final = 100
"""Runs of the train split that an objective is calibrated with after training."""


class TrainingData:
    """The three splits of a folder of shards, as examples of an objective.

    Seed, epoch and rank fix what is drawn for training; seed and run fix it for evaluation, on any number of ranks.

    Args:
        objective: it says which fields to read, and makes examples of them.
        settings: those of the training; without `data.shards`, the shards of the built-in corpus in its folder.
        device: where examples are made.
        rank, world: number of this process, and of all that share the runs that are evaluated.

    Raises:
        DataError: a split has no shards, or a shard lacks a field; it is named.
        ValueError: a field is unknown.
    """

    def __init__(
        self,
        objective: Objective,
        settings: TrainingSettings,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.objective, self._settings, self._device, self._rank, self._world = objective, settings, device, rank, world
        self.folder = Path(settings.data.shards) if settings.data.shards else settings.folder / "shards"
        other = Path(settings.data.evaluation) if settings.data.evaluation else self.folder
        folders = {split: (self.folder if split == "train" else other) / split for split in SPLITS}
        self._splits = {split: FrameDataset(folder, objective.fields) for split, folder in folders.items()}

    def of(self, objective: Objective) -> TrainingData:
        """Return the same data as examples of another objective."""
        return TrainingData(objective, self._settings, self._device, self._rank, self._world)

    def training_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch. Shape: each field [B, F, *shape]. Raises: DataError."""
        settings, frames = self._settings.data, self.objective.frames
        batches = frame_loader(
            self.folder / "train",
            settings.batch_size,
            self.objective.fields,
            frames=frames,
            workers=settings.workers,
            shuffle=settings.shuffle,
            seed=_derived_seed(self._settings.seed, epoch) % 2**32,
            resampled_batches=self._settings.steps_per_epoch,
        )
        for batch in batches:
            yield batch if frames > 1 else {name: field.unsqueeze(1) for name, field in batch.items()}

    def training_examples(self, epoch: int) -> Iterator[Tensors]:
        """Yield the examples of an epoch, and seed torch for it. Raises: DataError."""
        seed = _derived_seed(self._settings.seed, "epoch", epoch, self._rank)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        for batch in self.training_batches(epoch):
            with torch.no_grad():
                example = self.objective.example(self._moved(batch), generator)
            yield example

    def runs(self, split: str) -> Iterator[tuple[int, Batch]]:
        """Yield the runs of a split, each with its number. Shape: each field [C, F, *shape]. Raises: DataError."""
        for number, run in enumerate(self._splits[split].runs()):
            yield number, {name: torch.from_numpy(np.array(array)) for name, array in run.items()}

    def examples(self, split: str, some: int = 0) -> Iterator[tuple[int, Tensors]]:
        """Yield number of frames and example of the runs of a split.

        Args:
            split: name of the split.
            some: number of runs, spread over the split and the same on each rank; 0 for all that fall to this rank.

        Raises: DataError
        """
        self.objective.eval()
        total = sum(1 for _ in self._splits[split].runs())
        chosen = {place * total // some for place in range(some)} if some else range(self._rank, total, self._world)
        for number, run in self.runs(split):
            if number in chosen:
                generator = torch.Generator().manual_seed(_derived_seed(self._settings.seed, "evaluation", number))
                with torch.no_grad():
                    example = self.objective.example(self._moved(run), generator)
                channels, frames = next(iter(run.values())).shape[:2]
                yield channels * frames, example

    @torch.no_grad()
    def evaluate(self, split: str) -> tuple[Scores, Scores]:
        """Return mean losses of the objective, each frame counting the same, and its scores, over all ranks.

        Raises: DataError
        """
        frames, losses, sums = 0, defaultdict[str, float](float), defaultdict[str, Any](float)
        for count, example in self.examples(split):
            frames += count
            for name, loss in self.objective(example).items():
                losses[name] += count * loss.item()
            for name, value in self.objective.measure(example).items():
                sums[name] = sums[name] + value.detach().cpu()
        ranks = gather_object([(frames, dict(losses), dict(sums))])
        total = sum(frames for frames, _, _ in ranks)
        means = {name: loss / total for name, loss in _added([losses for _, losses, _ in ranks]).items()}
        return means, self.objective.scores(_added([sums for _, _, sums in ranks]))

    def measure(self) -> dict[str, dict[str, float | None]]:
        """Return losses and scores of both splits that are not trained on; None where a number is not finite.

        Raises: DataError
        """
        measured = {}
        for split in ("validation", "test"):
            losses, scores = self.evaluate(split)
            named = {name if name == "loss" else f"loss {name}": value for name, value in losses.items()}
            measured[split] = {
                name: value if math.isfinite(value) else None for name, value in {**named, **scores}.items()
            }
        return measured

    def calibrate(self) -> None:
        """Calibrate the objective on runs spread over the train split. Raises: DataError."""
        self.objective.calibrate([example for _, example in self.examples("train", CALIBRATION_RUNS)])

    def about(self) -> dict[str, Any]:
        """Describe the train split: teacher, recordings by licence, frames of one channel."""
        shards = [Shard(path) for path in find_shards(self.folder / "train")]
        runs = [run for shard in shards for run in shard.runs]
        licences = sorted({run.licence for run in runs})
        return {
            "name": self._settings.data.shards or "built-in corpus",
            "teacher": sorted({str(shard.about.get("teacher", "unknown")) for shard in shards}),
            "recordings": {one: sorted({run.recording for run in runs if run.licence == one}) for one in licences},
            "frames": sum(run.channels * run.frames for run in runs),
        }

    def _moved(self, batch: Batch) -> Batch:
        return {name: field.to(self._device) for name, field in batch.items()}


def corpus_shards(
    output: Path,
    settings: DataSettings,
    fields: Iterable[str],
    progress: Callable[[float], None] = lambda seconds: None,
) -> Path:
    """Render the built-in corpus and extract it with the built-in teacher; what exists already is kept.

    Args:
        output: folder; a folder of shards comes into it, and recordings for as long as they are needed.
        settings: the sounds and their length.
        fields: names of the fields to write.
        progress: called with the seconds of each finished recording.

    Returns:
        The folder of shards.

    Raises:
        AtracError, OSError: the folder holds shards of other sounds, lengths or fields, or cannot be written.
    """
    shards, recordings = output / "shards", output / "corpus"
    done = shards / "corpus.json"
    written = tuple(sorted(fields))
    content = {
        "sounds": list(settings.sounds),
        "seconds": settings.seconds,
        "variants": settings.variants,
        "gain": list(settings.gain),
        "fields": list(written),
    }
    if done.exists():
        if json.loads(done.read_text()) != content:
            raise DataError(f"{shards}: of {done.read_text()}, not {json.dumps(content)}; remove it or choose another")
        return shards
    sounds = settings.sounds or NAMES
    write_corpus(recordings, seconds=settings.seconds, names=sounds)
    # A shard of each recording, so that those of different sounds are drawn after one another.
    change = Augmentation(offset=settings.variants > 1, gain=settings.gain)
    about = Settings(written, settings.seconds / 2, change, settings.variants)
    extract(corpus_manifest(recordings, names=sounds), BuiltinTeacher(), shards, about, progress=progress)
    write_whole(done, json.dumps(content).encode())
    shutil.rmtree(recordings)
    return shards


def _added(parts: list[dict[str, Any]]) -> dict[str, Any]:
    added = defaultdict[str, Any](float)
    for part in parts:
        for name, value in part.items():
            added[name] = added[name] + value
    return dict(added)


def _derived_seed(*parts: object) -> int:
    """Return a seed of 63 bits that the parts fix, equal on all machines."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
