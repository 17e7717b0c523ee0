"""Reading shards for training: one frame at a time by number, or as a stream of batches.

`FrameDataset` is map-style: it knows where each frame lies and reads nothing else. `frame_loader` streams whole
shards through webdataset, split over ranks and workers.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from atrac_data.errors import DataError
from atrac_data.fields import FIELDS, Frames, check_fields
from atrac_data.shards import END, RUN_FRAMES, Shard, find_shards, read_npy

Tensors = dict[str, Tensor]
"""Field name to tensor."""
_MOST_EMPTY_SHARDS: Final = 1000
"""Shards drawn in a row that hold no item, after which an endless stream fails instead of drawing for ever."""


@final
class FrameDataset(Dataset[Tensors]):
    """The frames of a folder of shards by number, one channel each: frame after frame, channel after channel.

    Args:
        folder: one split's shards.
        fields: names of the fields to read; none for all.

    Raises:
        DataError: there are no shards, one is not finished, damaged, or lacks a field; it is named, with key and field.
        ValueError: a field is unknown.

    Shape: item i: each field [*shape] of one frame of one channel
    """

    def __init__(self, folder: str | Path, fields: Sequence[str] = ()) -> None:
        shards = [Shard(path) for path in find_shards(folder)]
        self.fields = _common_fields(shards, fields)
        self._runs = [(shard, run) for shard in shards for run in range(len(shard.runs))]
        counts = (shard.runs[run].channels * shard.runs[run].frames for shard, run in self._runs)
        self._ends = list(itertools.accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Tensors:
        """Return one frame of one channel. Raises: IndexError, DataError."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index}, allowed {-len(self)}..{len(self) - 1}")
        index %= len(self)
        place = bisect.bisect_right(self._ends, index)
        shard, run = self._runs[place]
        within = index - (self._ends[place - 1] if place else 0)
        frame, channel = divmod(within, shard.runs[run].channels)
        return {name: torch.from_numpy(np.array(shard.array(run, name)[channel, frame])) for name in self.fields}

    def runs(self) -> Iterator[Frames]:
        """Yield whole runs, each field [C, F, *shape] as a read-only array. Raises: DataError."""
        for shard, run in self._runs:
            yield {name: shard.array(run, name) for name in self.fields}


def frame_loader(
    shards: str | Path | Sequence[str],
    batch_size: int,
    fields: Sequence[str] = (),
    *,
    frames: int = 1,
    workers: int = 0,
    shuffle: int = 0,
    seed: int = 0,
    resampled_batches: int | None = None,
) -> Iterable[Tensors]:
    """Stream batches of frames, or of some successive ones, one channel each.

    Each frame comes exactly once an epoch, over all ranks (torch.distributed, or RANK and WORLD_SIZE in the
    environment) and workers: shards are dealt out to them, so some may get one more. A loop with a barrier between
    ranks needs the same number on each: `resampled_batches` draws shards with replacement, without end, and cuts the
    stream after so many batches; an epoch then is no longer every frame once.

    Args:
        shards: folder of one split, or addresses of tar files, anything webdataset opens. Those of a folder must be
            finished and are checked first.
        batch_size: items of a batch; the last of each worker may be smaller.
        fields: names of the fields to read; none for all.
        frames: successive frames of an item, 1 .. 64. Runs are cut into pieces of so many from their start; a shorter
            rest is left out.
        workers: processes that read; 0 reads in this one.
        shuffle: items to draw from at random; 0 keeps the order. Shards are shuffled too then.
        seed: of the shuffling and drawing; give each epoch a loader with its own.
        resampled_batches: batches of an epoch of drawn shards, on each rank; None reads each shard once.

    Shape: each field [B, *shape] for one frame, [B, frames, *shape] for more
    Raises:
        DataError: as `FrameDataset`; in the midst of an epoch too, naming shard and key.
        ValueError: a field is unknown, or a number out of its range.
    """
    numbers = {"batch_size": (batch_size, 1), "workers": (workers, 0), "shuffle": (shuffle, 0)}
    endless = resampled_batches is not None
    if resampled_batches is not None:
        numbers["resampled_batches"] = (resampled_batches, 1)
    for name, (number, least) in numbers.items():
        if number < least:
            raise ValueError(f"{name} = {number}, allowed {least} and more")
    if not 1 <= frames <= RUN_FRAMES:
        raise ValueError(f"frames = {frames}, allowed 1..{RUN_FRAMES}")
    if isinstance(shards, str | Path):
        opened = [Shard(path) for path in find_shards(shards)]
        names, urls = _common_fields(opened, fields), [str(shard.path) for shard in opened]
    else:
        names, urls = check_fields(tuple(fields)) if fields else (), list(shards)
    if not urls:
        raise ValueError("no shards, allowed one and more")
    stages: list[Any] = [_Items(names, frames, endless)]
    if endless:
        stages.insert(0, wds.ResampledShards(urls, seed=seed, deterministic=True))
    else:
        stages[:0] = [wds.SimpleShardList(urls, seed if shuffle else None), wds.split_by_node, wds.split_by_worker]
    if shuffle:
        stages.append(wds.shuffle(shuffle, initial=shuffle, seed=seed))
    stages.append(wds.batched(batch_size, collation_fn=default_collate, partial=not endless))
    loader = wds.WebLoader(wds.DataPipeline(*stages), batch_size=None, num_workers=workers)
    batches: Iterable[Tensors] = loader.with_epoch(resampled_batches) if endless else loader
    return batches


class _Items:
    """The stage of the pipeline that turns shards into items; an object, so that it can be sent to workers."""

    def __init__(self, fields: tuple[str, ...], frames: int, endless: bool) -> None:
        self._fields, self._frames, self._endless = fields, frames, endless

    def __call__(self, sources: Iterable[dict[str, Any]]) -> Iterator[Tensors]:
        empty = 0
        for source in sources:
            empty += 1
            for arrays in _runs(source["url"], self._fields):
                for item in self._cut(arrays):
                    empty = 0
                    yield item
            if self._endless and empty > _MOST_EMPTY_SHARDS:
                raise DataError(f"{source['url']}: {empty} shards in a row without {self._frames} successive frames")

    def _cut(self, arrays: Frames) -> Iterator[Tensors]:
        """Cut a run into items, channel after channel within each stretch of frames."""
        own, columns = self._frames, []
        for array in arrays.values():
            channels, frames, *shape = array.shape
            pieces = frames // own
            cut = array[:, : pieces * own].reshape(channels, pieces, own, *shape).swapaxes(0, 1)
            # One copy of the run, whose pieces are views of it: one in the shuffle buffer keeps its run in memory.
            column = torch.from_numpy(np.array(cut)).flatten(0, 1)
            columns.append((column if own > 1 else column.squeeze(1)).unbind())
        for row in zip(*columns, strict=True):
            yield dict(zip(arrays, row, strict=True))


def _runs(url: str, fields: tuple[str, ...]) -> Iterator[Frames]:
    """Yield the runs of one shard, each field [C, F, *shape], and make sure that it was whole.

    Args:
        url: anything webdataset opens.
        fields: names of the fields; none for those that each run states.

    Raises: DataError
    """
    last, count, stated = "the start", 0, None
    for key, about, sample in _samples(url):
        if key == END:
            stated = about["runs"]
            continue
        last, count = key, count + 1
        names = fields or about["fields"]
        if missing := [name for name in names if f"{name}.npy" not in sample or name not in FIELDS]:
            raise DataError(f"{url}: {key} has no field {missing[0]!r}")
        leading = about["channels"], about["frames"]
        yield {name: read_npy(sample[f"{name}.npy"], 0, name, leading, f"{url}: {key}") for name in names}
    if stated != count:
        expected = "no end" if stated is None else f"{stated} stated"
        raise DataError(f"{url}: the shard breaks off after {last}: {count} runs, {expected}")


def _samples(url: str) -> Iterator[tuple[str, dict[str, Any], dict[str, bytes]]]:
    """Yield key, description and members by suffix of each sample of a tar file; no array is decoded."""
    key = "the start"
    try:
        with wds.gopen(url) as stream:
            files = wds.tariterators.tar_file_expander([{"url": url, "stream": stream}])
            for sample in wds.tariterators.group_by_keys(files):
                key = sample["__key__"]
                about = json.loads(sample["json"])
                kinds = {"runs": int} if key == END else {"channels": int, "frames": int, "fields": list}
                yield key, {name: kind(about[name]) for name, kind in kinds.items()}, sample
    except Exception as error:  # an address may lead anywhere, and fail in any way
        # webdataset appends the stream and the address to the arguments of an exception.
        reason = error if isinstance(error, OSError) else error.args[0] if error.args else repr(error)
        raise DataError(f"{url}: damaged after {key}: {reason}") from error


def _common_fields(shards: list[Shard], fields: Sequence[str]) -> tuple[str, ...]:
    names = check_fields(tuple(fields)) if fields else shards[0].fields
    for shard in shards:
        if missing := [name for name in names if name not in shard.fields]:
            raise DataError(f"{shard.path}: no field {missing[0]!r}, it has {', '.join(shard.fields)}")
    return names
