from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from atrac_data import FIELDS, DataError, FrameDataset, Shard, find_shards, frame_loader
from atrac_data.shards import npy_header

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes:UserWarning"),
]
SMALL = ("bsm", "n_bfu", "units")


def names(frames: Iterable[dict[str, Tensor]]) -> list[bytes]:
    """Tell frames apart by their sound units: every sound of the recordings is noise or attacks."""
    return [unit.numpy().tobytes() for frame in frames for unit in frame["units"].reshape(-1, 212)]


@pytest.fixture(scope="module")
def everything(extracted: Path) -> list[bytes]:
    """The train split's frames, in order."""
    dataset = FrameDataset(extracted / "train", SMALL)
    return names(dataset[i] for i in range(len(dataset)))


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def be(rank: int, world: int) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))

    return be


def test_frames_come_one_after_another_channel_by_channel(extracted):
    dataset = FrameDataset(extracted / "train")
    assert dataset.fields == tuple(FIELDS)
    i = 0
    for run in dataset.runs():
        channels, frames = run["bsm"].shape[:2]
        for frame, channel in itertools.product(range(frames), range(channels)):
            if i % 17 == 0:
                item = dataset[i]
                for name, field in FIELDS.items():
                    assert item[name].shape == field.shape
                    assert item[name].numpy().dtype == field.dtype
                    assert np.array_equal(item[name].numpy(), run[name][channel, frame])
            i += 1
    assert i == len(dataset) > 250


def test_numbers_beyond_the_ends_are_refused_and_negative_ones_count_from_the_end(extracted):
    dataset = FrameDataset(extracted / "train", SMALL)
    n = len(dataset)
    assert torch.equal(dataset[-1]["units"], dataset[n - 1]["units"])
    assert torch.equal(dataset[-n]["units"], dataset[0]["units"])
    for index in (n, -n - 1):
        with pytest.raises(IndexError, match=rf"frame {index}, allowed -{n}\.\.{n - 1}"):
            dataset[index]
    assert len(list(dataset)) == n  # type: ignore[call-overload]


def test_items_are_their_own(extracted):
    dataset = FrameDataset(extracted / "train", ["pcm"])
    dataset[5]["pcm"].zero_()
    assert dataset[5]["pcm"].any()


def test_one_frame_is_read_without_touching_another(train):
    """All that is neither its own bytes nor the headers of its own arrays is overwritten."""
    dataset = FrameDataset(train)
    index = 200
    expected = dataset[index]
    first, kept = 0, {}
    for path in find_shards(train):
        shard = Shard(path)
        spoilt = np.full(path.stat().st_size, 0xA5, np.uint8)
        for run in shard.runs:
            if first <= index < first + run.frames * run.channels:
                frame, channel = divmod(index - first, run.channels)
                whole = np.fromfile(path, np.uint8)
                for name, field in FIELDS.items():
                    start = run.offsets[name]
                    header = len(npy_header((run.channels, run.frames, *field.shape), field.dtype))
                    size = field.dtype.itemsize * int(np.prod(field.shape))
                    at = start + header + (channel * run.frames + frame) * size
                    for own in (slice(start, start + header), slice(at, at + size)):
                        spoilt[own] = whole[own]
                        kept[name] = own
            first += run.frames * run.channels
        spoilt.tofile(path)
    assert set(kept) == set(FIELDS)
    item = FrameDataset(train)[index]
    assert all(torch.equal(item[name], expected[name]) for name in FIELDS)
    with pytest.raises(DataError, match="is damaged"):
        FrameDataset(train)[index - 200]


def test_a_dataset_survives_pickling_also_after_reading(extracted):
    dataset = FrameDataset(extracted / "train", SMALL)
    first = dataset[7]
    again = pickle.loads(pickle.dumps(dataset))
    assert len(again) == len(dataset)
    assert torch.equal(again[7]["units"], first["units"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_reads_each_frame_once(extracted, everything, workers: int):
    loader = DataLoader(FrameDataset(extracted / "train", SMALL), batch_size=50, num_workers=workers, shuffle=True)
    batches = list(loader)
    assert batches[0]["bsm"].shape == (50, 3)
    assert Counter(names(batches)) == Counter(everything)


def test_frames_can_be_told_apart(everything):
    assert max(Counter(everything).values()) == 1


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("shuffle", [0, 100])
def test_the_loader_gives_each_frame_once(extracted, everything, workers: int, shuffle: int):
    batches = list(frame_loader(extracted / "train", 48, SMALL, workers=workers, shuffle=shuffle))
    assert Counter(names(batches)) == Counter(everything)
    assert sum(len(batch["bsm"]) < 48 for batch in batches) <= max(workers, 1)
    for name in SMALL:
        assert batches[0][name].shape == (48, *FIELDS[name].shape)
        assert batches[0][name].numpy().dtype == FIELDS[name].dtype
    if not shuffle and workers < 2:
        assert names(batches) == everything
    elif shuffle:
        assert names(batches) != everything


@pytest.mark.parametrize("world", [2, 3, 50])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_together_get_each_frame_once(extracted, everything, rank, world: int, workers: int):
    seen = []
    for number in range(world if workers == 0 else min(world, 2)):
        rank(number, world)
        own = names(frame_loader(extracted / "train", 64, SMALL, workers=workers, shuffle=30, seed=2))
        assert set(own).isdisjoint(seen)
        seen += own
    if workers == 0 or world == 2:
        assert Counter(seen) == Counter(everything)
    if world == 50 and workers == 0:
        assert not own, "there are fewer shards than ranks"


SCRIPT = """
import json, os, sys
from pathlib import Path
import torch.distributed as dist
from atrac_data import frame_loader
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
for workers in (0, 1, 2):
    if workers == 2:  # torch.distributed alone must do too
        del os.environ["RANK"], os.environ["WORLD_SIZE"]
    loader = frame_loader(sys.argv[1], 64, ["units"], workers=workers, shuffle=20)
    units = [unit.numpy().tobytes().hex() for batch in loader for unit in batch["units"]]
    Path(sys.argv[2], f"{workers}-{rank}.json").write_text(json.dumps([world, units]))
dist.barrier()
dist.destroy_process_group()
"""


def test_two_ranks_under_torchrun_get_each_frame_once(extracted, everything, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*torchrun, tmp_path / "script.py", extracted / "train", tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    for workers in (0, 1, 2):
        (world, first), (_, second) = (json.loads((tmp_path / f"{workers}-{r}.json").read_text()) for r in (0, 1))
        assert world == 2
        assert first
        assert second
        assert Counter(first + second) == Counter(unit.hex() for unit in everything)


def test_shuffling_is_fixed_by_its_seed(extracted):
    def order(seed: int, **more: Any) -> list[bytes]:
        return names(frame_loader(extracted / "train", 32, SMALL, shuffle=200, seed=seed, **more))

    assert order(3) == order(3)
    assert order(3) != order(4)
    assert Counter(order(3)) == Counter(order(4))
    assert order(3, workers=2) == order(3, workers=2)


def test_an_epoch_can_be_read_again(extracted):
    loader = frame_loader(extracted / "train", 32, SMALL, shuffle=50)
    assert names(loader) == names(loader)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batches", [1, 7, 40])
def test_drawn_shards_give_exactly_the_batches_asked_for(extracted, everything, workers: int, batches: int):
    def drawn(seed: int) -> list[dict[str, Tensor]]:
        return list(
            frame_loader(
                extracted / "train", 32, SMALL, workers=workers, shuffle=20, seed=seed, resampled_batches=batches
            )
        )

    own = drawn(1)
    assert [len(batch["bsm"]) for batch in own] == [32] * batches
    assert set(names(own)) <= set(everything)
    if batches == 7:
        assert names(own) == names(drawn(1))
        assert names(own) != names(drawn(2))


def test_ranks_draw_differently_but_equally_much(extracted, rank):
    own = []
    for number in range(2):
        rank(number, 2)
        own.append(list(frame_loader(extracted / "train", 32, SMALL, shuffle=20, resampled_batches=9)))
    assert len(own[0]) == len(own[1]) == 9
    assert names(own[0]) != names(own[1])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("frames", [2, 7, 64])
def test_items_can_be_successive_frames_of_one_channel(extracted, workers: int, frames: int):
    expected = [
        run["units"][channel, start : start + frames].tobytes()
        for run in FrameDataset(extracted / "train", ["units"]).runs()
        for start in range(0, run["units"].shape[1] - frames + 1, frames)
        for channel in range(len(run["units"]))
    ]
    fields = ["units", "pcm", "loudness"]
    batches = list(frame_loader(extracted / "train", 2, fields, frames=frames, workers=workers))
    assert [list(batches[0][name].shape) for name in fields] == [[2, frames, 212], [2, frames, 512], [2, frames]]
    assert [piece.numpy().tobytes() for batch in batches for piece in batch["units"]] == expected
    assert expected


def test_drawing_longer_pieces_than_there_are_ends_with_an_error(extracted, monkeypatch):
    monkeypatch.setattr("atrac_data.dataset._BARREN", 20)
    assert list(frame_loader(extracted / "test", 2, SMALL, frames=64)) == []
    with pytest.raises(DataError, match=r"test-000000\.tar: 21 shards in a row without 64 successive frames"):
        list(frame_loader(extracted / "test", 2, SMALL, frames=64, resampled_batches=1))


def test_addresses_serve_as_well_as_a_folder(extracted, everything):
    paths = [str(path) for path in find_shards(extracted / "train")]
    assert names(frame_loader(paths, 64, SMALL)) == everything
    assert names(frame_loader([f"file:{path}" for path in paths], 64, SMALL)) == everything
    assert names(frame_loader([f"pipe:cat {path}" for path in paths], 64, SMALL)) == everything
    assert set(next(iter(frame_loader(paths[:1], 2)))) == set(FIELDS)


@pytest.mark.parametrize("options", [{}, {"shuffle": 5}, {"resampled_batches": 3}])
def test_the_pipeline_can_be_sent_to_workers_that_are_not_forked(extracted, everything, options: dict[str, int]):
    loader: Any = frame_loader(extracted / "train", 64, SMALL, **options)
    pipeline = pickle.loads(pickle.dumps(loader.pipeline[0].dataset))
    assert names(itertools.islice(pipeline, 3)) == names(itertools.islice(loader, 3))


def test_wrong_arguments_are_refused(extracted):
    folder = extracted / "train"
    for wrong in ({"batch_size": 0}, {"workers": -1}, {"shuffle": -1}, {"resampled_batches": 0}):
        with pytest.raises(ValueError, match=r"batch_size = .*, workers = .*, allowed from 1, 0, 0, 1 on"):
            frame_loader(folder, **{"batch_size": 1, **wrong})  # type: ignore[arg-type]
    for frames in (0, 65):
        with pytest.raises(ValueError, match=rf"frames = {frames}, allowed 1\.\.64"):
            frame_loader(folder, 1, frames=frames)
    with pytest.raises(ValueError, match="no shards, allowed one and more"):
        frame_loader([], 1)
    for call in (lambda: FrameDataset(folder, ["pcm", "x"]), lambda: frame_loader(folder, 1, ["pcm", "x"])):
        with pytest.raises(ValueError, match="field 'x', allowed pcm"):
            call()


def read_by_number(folder: Path) -> None:
    dataset = FrameDataset(folder)
    for i in range(len(dataset)):
        dataset[i]


def read_runs(folder: Path) -> None:
    list(FrameDataset(folder).runs())


def stream(folder: Path) -> None:
    list(frame_loader(folder, 64))


def stream_addresses(folder: Path) -> None:
    """As from a server, without the indices."""
    list(frame_loader([str(path) for path in sorted(folder.glob("*.tar"))], 64))


ALL = (read_by_number, read_runs, stream, stream_addresses)
Reader = Callable[[Path], None]


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("read", ALL)
@pytest.mark.parametrize("damage", ["dtype", "byte order", "shape", "frames", "short", "garbage", "pickle", "version"])
def test_a_wrong_array_is_named_with_shard_key_and_field(train, rewrite, tmp_path, read: Reader, damage: str):
    path = find_shards(train)[1]
    key = Shard(path).runs[-1].key
    bomb = np.empty((1, 1), object)
    bomb[0, 0] = Bomb(tmp_path / "exploded")

    def spoil(name: str, data: bytes) -> bytes:
        if name != f"{key}.idwl.npy":
            return data
        array = np.load(io.BytesIO(data))
        stream = io.BytesIO()
        if damage == "version":
            np.lib.format.write_array(stream, array, version=(2, 0))
            return stream.getvalue()
        spoilt = {
            "dtype": array.astype("<f4"),
            "byte order": array.astype(">u2"),
            "shape": array[..., :-1],
            "frames": array[:, :-1],
            "pickle": bomb,
        }
        if damage in spoilt:
            np.save(stream, spoilt[damage], allow_pickle=True)
            return stream.getvalue()
        return data[:-1] if damage == "short" else b"x" * len(data)

    if damage == "short" and read in (read_by_number, read_runs):
        pytest.skip("reading by the index takes no notice of the member's size")
    rewrite(path, spoil)
    with pytest.raises(DataError, match=rf"{path.name}: {key}\.idwl\.npy is damaged"):
        read(train)
    assert not (tmp_path / "exploded").exists()
    if damage == "pickle":
        pickle.loads(pickle.dumps(bomb))
        assert (tmp_path / "exploded").exists(), "it would have"


def test_an_error_in_a_worker_keeps_its_type_and_names(train):
    path = find_shards(train)[0]
    spoilt = bytearray(path.read_bytes())
    spoilt[Shard(path).runs[0].offsets["bsm"]] ^= 1
    path.write_bytes(spoilt)
    loader: Any = frame_loader(train, 64, workers=1)
    batches = iter(loader.pipeline[0])
    with pytest.raises(DataError, match=rf"{path.name}: {Shard(path).runs[0].key}\.bsm\.npy is damaged"):
        list(batches)
    batches._shutdown_workers()  # left to the garbage collector, this takes 5 s


@pytest.mark.parametrize("read", ALL)
def test_a_missing_member_is_named_with_shard_and_key(train, rewrite, read: Reader):
    path = find_shards(train)[1]
    key = Shard(path).runs[0].key
    rewrite(path, lambda name, data: None if name == f"{key}.units.npy" else data)
    with pytest.raises(DataError, match=rf"{path.stem}\.(tar|json): .*{key} has no field 'units'"):
        read(train)


@pytest.mark.parametrize("read", ALL)
def test_a_cut_shard_is_named(train, read: Reader):
    path = find_shards(train)[1]
    whole, shard = path.read_bytes(), Shard(path)
    run = shard.runs[-1]
    member = run.offsets["bsm"] - 512
    for size in (0, 100, run.offsets["bsm"] + 40, member, member + 200, len(whole) - 1024 - 1024):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=rf"{path.name}: "):
            read(train)


@pytest.mark.parametrize("member", ["json", "pcm.npy"])
@pytest.mark.parametrize("place", [0, 30, 124, 148, 156, 257])
def test_a_damaged_member_header_is_named_with_the_last_good_key(train, member: str, place: int):
    path = find_shards(train)[0]
    first, second = Shard(path).runs[:2]
    whole = bytearray(path.read_bytes())
    whole[whole.index(f"{second.key}.{member}\0".encode()) + place] ^= 1
    path.write_bytes(whole)
    for read in (stream, stream_addresses):
        with pytest.raises(DataError, match=rf"{path.name}: .*({first.key}|{second.key})"):
            read(train)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"frames": 3}', b'{"frames": "x", "channels": 1}'])
def test_a_garbled_sample_is_named_with_shard_and_key(train, rewrite, content: bytes):
    path = find_shards(train)[0]
    key = Shard(path).runs[0].key
    rewrite(path, lambda name, data: content if name == f"{key}.json" else data)
    for read in (stream, stream_addresses):
        with pytest.raises(DataError, match=rf"{path.name}: damaged after {key}"):
            read(train)


@pytest.mark.parametrize("read", ALL[:-1])
def test_a_missing_or_garbled_index_is_named(train, read: Reader):
    index = find_shards(train)[1].with_suffix(".json")
    index.write_text("{")
    with pytest.raises(DataError, match=rf"{index.name}: the index is damaged"):
        read(train)
    index.unlink()
    with pytest.raises(DataError, match=rf"{index.stem}\.tar: no index {index.name} beside it"):
        read(train)


@pytest.mark.parametrize("read", ALL)
def test_something_else_is_no_shard(train, read: Reader):
    path = find_shards(train)[0]
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    with pytest.raises(DataError, match=path.name):
        read(train)


def test_an_address_that_leads_nowhere_is_named(tmp_path):
    for address in (str(tmp_path / "no.tar"), f"pipe:cat {tmp_path}/no.tar 2>&-"):
        with pytest.raises(DataError, match=r"no\.tar.*: damaged after the start"):
            list(frame_loader([address], 1))


def test_shards_with_different_fields_are_told(train, rewrite):
    path = find_shards(train)[1]
    rewrite(path, lambda name, data: None if name.endswith(".loudness.npy") else data)
    index = json.loads(path.with_suffix(".json").read_text())
    del index["fields"]["loudness"]
    path.with_suffix(".json").write_text(json.dumps(index))
    for read in (read_runs, stream):
        with pytest.raises(DataError, match=rf"{path.name}: no field 'loudness', it has pcm"):
            read(train)
    assert len(FrameDataset(train, ["pcm"])[0]) == 1
