"""Reading shards by number and as a stream, whole and damaged."""

from __future__ import annotations

import itertools
import json
import pickle
import tarfile
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
    found = names(FrameDataset(extracted / "train", SMALL))  # type: ignore[arg-type]
    assert max(Counter(found).values()) == 1
    return found


@pytest.fixture
def be_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def be(rank: int, world: int) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))

    return be


def test_frames_come_one_after_another_channel_by_channel(extracted):
    dataset = FrameDataset(extracted / "train")
    assert dataset.fields == tuple(FIELDS)
    places = [
        (run, frame, channel)
        for run in dataset.runs()
        for frame, channel in itertools.product(range(run["bsm"].shape[1]), range(len(run["bsm"])))
    ]
    assert len(places) == len(dataset) > 250
    for i in range(0, len(dataset), 17):
        run, frame, channel = places[i]
        for name, field in FIELDS.items():
            assert dataset[i][name].numpy().dtype == field.dtype
            assert np.array_equal(dataset[i][name].numpy(), run[name][channel, frame])


def test_numbers_beyond_the_ends_are_refused_and_negative_ones_count_from_the_end(extracted, everything):
    dataset = FrameDataset(extracted / "train", SMALL)
    n = len(dataset)
    assert names([dataset[-1], dataset[-n]]) == [everything[-1], everything[0]]
    for index in (n, -n - 1):
        with pytest.raises(IndexError, match=rf"frame {index}, allowed -{n}\.\.{n - 1}"):
            dataset[index]


def test_items_are_their_own_and_a_dataset_can_be_pickled(extracted):
    dataset = FrameDataset(extracted / "train", ["pcm"])
    dataset[5]["pcm"].zero_()
    assert dataset[5]["pcm"].any()
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[5]["pcm"], dataset[5]["pcm"])


def test_one_frame_is_read_without_touching_another(train):
    """All that is neither its own bytes nor the headers of its own arrays is overwritten."""
    path = find_shards(train)[0]
    run, whole = Shard(path).runs[0], np.fromfile(path, np.uint8)
    frame, channel = 40, 1
    index = frame * run.channels + channel
    expected, spoilt = FrameDataset(train)[index], np.full(len(whole), 0xA5, np.uint8)
    for name, field in FIELDS.items():
        start, size = run.offsets[name], field.dtype.itemsize * int(np.prod(field.shape))
        header = len(npy_header((run.channels, run.frames, *field.shape), field.dtype))
        at = start + header + (channel * run.frames + frame) * size
        for own in (slice(start, start + header), slice(at, at + size)):
            spoilt[own] = whole[own]
    spoilt.tofile(path)
    item = FrameDataset(train)[index]
    assert all(torch.equal(item[name], expected[name]) for name in FIELDS)
    assert not torch.equal(FrameDataset(train)[index + 1]["pcm"], expected["pcm"])


def test_a_data_loader_with_workers_reads_each_frame_once(extracted, everything):
    loader = DataLoader(FrameDataset(extracted / "train", SMALL), batch_size=50, num_workers=2, shuffle=True)
    assert Counter(names(loader)) == Counter(everything)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("shuffle", [0, 100])
def test_the_loader_gives_each_frame_once(extracted, everything, workers: int, shuffle: int):
    batches = list(frame_loader(extracted / "train", 48, SMALL, workers=workers, shuffle=shuffle))
    assert Counter(names(batches)) == Counter(everything)
    assert sum(len(batch["bsm"]) < 48 for batch in batches) <= max(workers, 1)
    for name in SMALL:
        assert batches[0][name].shape == (48, *FIELDS[name].shape)
        assert batches[0][name].numpy().dtype == FIELDS[name].dtype
    assert (names(batches) == everything) == (shuffle == 0 and workers < 2)


@pytest.mark.parametrize(("world", "workers"), [(2, 0), (3, 0), (50, 0), (2, 2)])
def test_ranks_and_workers_together_get_each_frame_once(extracted, everything, be_rank, world: int, workers: int):
    seen: list[bytes] = []
    for rank in range(world):
        be_rank(rank, world)
        seen += names(frame_loader(extracted / "train", 64, SMALL, workers=workers, shuffle=30, seed=2))
    assert Counter(seen) == Counter(everything)


def test_shuffling_is_fixed_by_its_seed_and_an_epoch_can_be_read_again(extracted):
    def loader(seed: int, workers: int = 0) -> Iterable[dict[str, Tensor]]:
        return frame_loader(extracted / "train", 32, SMALL, shuffle=200, seed=seed, workers=workers)

    order = names(epoch := loader(3))
    assert names(epoch) == names(loader(3)) == order
    assert names(loader(3, 2)) == names(loader(3, 2))
    assert order != names(loader(4))


@pytest.mark.parametrize(("workers", "batches"), [(0, 1), (0, 7), (2, 7), (0, 40)])
def test_drawn_shards_give_exactly_the_batches_asked_for(extracted, everything, workers: int, batches: int):
    def drawn(seed: int) -> list[dict[str, Tensor]]:
        options = {"workers": workers, "shuffle": 20, "seed": seed, "resampled_batches": batches}
        return list(frame_loader(extracted / "train", 32, SMALL, **options))  # type: ignore[arg-type]

    own = drawn(1)
    assert [len(batch["bsm"]) for batch in own] == [32] * batches
    assert set(names(own)) <= set(everything)
    assert names(own) == names(drawn(1)) != names(drawn(2))


def test_ranks_draw_differently_but_equally_much(extracted, be_rank):
    own = []
    for rank in range(2):
        be_rank(rank, 2)
        own.append(list(frame_loader(extracted / "train", 32, SMALL, shuffle=20, resampled_batches=9)))
    assert len(own[0]) == len(own[1]) == 9
    assert names(own[0]) != names(own[1])


@pytest.mark.parametrize(("frames", "workers"), [(2, 0), (7, 1), (64, 0)])
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


def test_drawing_longer_pieces_than_there_are_ends_with_an_error(extracted, monkeypatch):
    monkeypatch.setattr("atrac_data.dataset._MOST_EMPTY_SHARDS", 20)
    assert list(frame_loader(extracted / "test", 2, SMALL, frames=64)) == []
    with pytest.raises(DataError, match=r"test-000000\.tar: 21 shards in a row without 64 successive frames"):
        list(frame_loader(extracted / "test", 2, SMALL, frames=64, resampled_batches=1))


@pytest.mark.parametrize("address", ["{}", "file:{}", "pipe:cat {}"])
def test_addresses_serve_as_well_as_a_folder(extracted, everything, address: str):
    addresses = [address.format(path) for path in find_shards(extracted / "train")]
    assert names(frame_loader(addresses, 64, SMALL)) == everything
    assert set(next(iter(frame_loader(addresses[:1], 2)))) == set(FIELDS)


@pytest.mark.parametrize("options", [{}, {"shuffle": 5}, {"resampled_batches": 3}])
def test_the_pipeline_can_be_sent_to_workers_that_are_not_forked(extracted, options: dict[str, int]):
    loader: Any = frame_loader(extracted / "train", 64, SMALL, **options)
    pipeline = pickle.loads(pickle.dumps(loader.pipeline[0].dataset))
    assert names(itertools.islice(pipeline, 3)) == names(itertools.islice(loader, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0, allowed 1 and more"),
        ({"workers": -1}, "workers = -1, allowed 0 and more"),
        ({"shuffle": -1}, "shuffle = -1, allowed 0 and more"),
        ({"resampled_batches": 0}, "resampled_batches = 0, allowed 1 and more"),
        ({"frames": 0}, r"frames = 0, allowed 1\.\.64"),
        ({"frames": 65}, r"frames = 65, allowed 1\.\.64"),
        ({"shards": []}, "no shards, allowed one and more"),
        ({"fields": ["pcm", "x"]}, "field 'x', allowed pcm"),
    ],
)
def test_wrong_arguments_are_refused(extracted, wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        frame_loader(**{"shards": extracted / "train", "batch_size": 1, **wrong})


# Damage: whatever is read, and however, an error names the shard and the place.


def read_by_number(folder: Path) -> None:
    list(FrameDataset(folder))  # type: ignore[call-overload]


def stream(folder: Path) -> None:
    list(frame_loader(folder, 64))


def stream_addresses(folder: Path) -> None:
    """As from a server, without the indices."""
    list(frame_loader([str(path) for path in sorted(folder.glob("*.tar"))], 64))


ALL = pytest.mark.parametrize("read", [read_by_number, stream, stream_addresses])
Reader = Callable[[Path], None]


def patch(path: Path, position: int, data: bytes) -> None:
    """Overwrite a part of a file."""
    with path.open("r+b") as file:
        file.seek(position)
        file.write(data)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@ALL
@pytest.mark.parametrize("damage", ["dtype", "byte order", "shape", "frames", "garbage", "pickle", "version"])
def test_a_wrong_array_is_named_with_shard_key_and_field(train, tmp_path, read: Reader, damage: str):
    path = find_shards(train)[1]
    run = Shard(path).runs[-1]
    bomb = np.empty((1, 1), object)
    bomb[0, 0] = Bomb(tmp_path / "exploded")
    shape, own = (run.channels, run.frames, 52), np.dtype("|u1")
    wrong = {
        "dtype": npy_header(shape, np.dtype("<f4")),
        "byte order": npy_header(shape, np.dtype(">u2")),
        "shape": npy_header((*shape[:2], 51), own),
        "frames": npy_header((run.channels, run.frames - 1, 52), own),
        "garbage": b"x" * 100,
        "pickle": npy_header((1, 1), bomb.dtype) + pickle.dumps(bomb),
        "version": npy_header(shape, own)[:6] + b"\2",
    }
    patch(path, run.offsets["idwl"], wrong[damage])
    with pytest.raises(DataError, match=rf"{path.name}: {run.key}\.idwl\.npy is damaged"):
        read(train)
    assert not (tmp_path / "exploded").exists()
    if damage == "pickle":
        pickle.loads(pickle.dumps(bomb))
        assert (tmp_path / "exploded").exists(), "unpickling creates the file"


def test_an_error_in_a_worker_keeps_its_type_and_names(train):
    path = find_shards(train)[0]
    run = Shard(path).runs[0]
    patch(path, run.offsets["bsm"], b"x")
    loader: Any = frame_loader(train, 64, workers=1)
    batches = iter(loader.pipeline[0])
    with pytest.raises(DataError, match=rf"{path.name}: {run.key}\.bsm\.npy is damaged"):
        list(batches)
    batches._shutdown_workers()  # left to the garbage collector, this takes 5 s


@ALL
def test_a_missing_member_is_named_with_shard_and_key(train, read: Reader):
    path = find_shards(train)[1]
    index = json.loads(path.with_suffix(".json").read_text())
    member = tarfile.TarInfo(f"{index['runs'][0]['key']}.other.npy")
    patch(path, index["runs"][0]["offsets"].pop("units") - 512, member.tobuf(tarfile.USTAR_FORMAT))
    path.with_suffix(".json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=rf"{path.stem}\.(tar|json): .*{index['runs'][0]['key']} has no field 'units'"):
        read(train)


@ALL
def test_a_cut_shard_and_something_else_are_named(train, read: Reader):
    path = find_shards(train)[1]
    whole, start = path.read_bytes(), Shard(path).runs[-1].offsets["bsm"]
    end = whole.index(b"end.json\0")
    for size in (0, 100, start + 40, start - 512, start - 312, end):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=rf"{path.name}: "):
            read(train)
    path.write_bytes(np.random.default_rng(0).bytes(len(whole)))
    with pytest.raises(DataError, match=rf"{path.name}: "):
        read(train)


@pytest.mark.parametrize("member", ["json", "pcm.npy"])
@pytest.mark.parametrize("place", [0, 30, 124, 148, 156, 257])
def test_a_damaged_member_header_is_named_with_the_last_good_key(train, member: str, place: int):
    path = find_shards(train)[0]
    first, second = Shard(path).runs[:2]
    whole = path.read_bytes()
    at = whole.index(f"{second.key}.{member}\0".encode()) + place
    patch(path, at, bytes([whole[at] ^ 1]))
    with pytest.raises(DataError, match=rf"{path.name}: .*({first.key}|{second.key})"):
        stream(train)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"frames": 3}', '{"frames": "x", "channels": 1}'])
def test_a_garbled_sample_is_named_with_shard_and_key(train, content: str):
    path = find_shards(train)[0]
    key, whole = Shard(path).runs[0].key, path.read_bytes()
    start = whole.index(f"{key}.json\0".encode()) + 512
    patch(path, start, content.ljust(whole.index(b"\n", start) - start).encode())
    with pytest.raises(DataError, match=rf"{path.name}: damaged after {key}"):
        stream(train)


def test_an_address_that_leads_nowhere_is_named(tmp_path):
    for address in (str(tmp_path / "no.tar"), f"pipe:cat {tmp_path}/no.tar 2>&-"):
        with pytest.raises(DataError, match=r"no\.tar.*: damaged after the start"):
            list(frame_loader([address], 1))


def test_shards_with_different_fields_are_named(train):
    path = find_shards(train)[1].with_suffix(".json")
    index = json.loads(path.read_text())
    del index["fields"]["loudness"]
    path.write_text(json.dumps(index))
    for read in (read_by_number, stream):
        with pytest.raises(DataError, match=rf"{path.stem}\.tar: no field 'loudness', it has pcm"):
            read(train)
    assert len(FrameDataset(train, ["pcm"])[0]) == 1
