from __future__ import annotations

import functools
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import atrac_data.shards as shards_module
from atrac_data import FIELDS, DataError, Frames, Run, Shard, find_shards, write_shard

NAMES = ("pcm", "bsm", "n_bfu", "quantized")
FRAMES = (64, 64, 5)


def run_of(frames: int = 64, channels: int = 2, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    return {n: rng.integers(0, 99, (channels, frames, *FIELDS[n].shape)).astype(FIELDS[n].dtype) for n in NAMES}


def samples(seed: int = 0) -> Iterator[tuple[Run, Frames]]:
    for i, n in enumerate(FRAMES):
        yield Run(f"0123-{i:06d}", "a b/ö.wav", "CC0", 64 * i, n, 2), run_of(n, seed=seed + i)


def write(path: Path, seed: int = 0) -> Path:
    write_shard(path, NAMES, {"teacher": "none"}, samples(seed))
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write(tmp_path / "s-000000.tar")


def test_what_was_written_is_read_again(shard):
    opened = Shard(shard.with_suffix(".json"))
    assert (opened.path, opened.fields, opened.about) == (shard, NAMES, {"teacher": "none"})
    for i, (run, frames) in enumerate(samples()):
        assert {**vars(opened.runs[i]), "offsets": {}} == vars(run)
        for name in NAMES:
            array = opened.array(i, name)
            assert np.array_equal(array, frames[name])
            assert array.dtype == FIELDS[name].dtype
            assert not array.flags.writeable
    opened.verify()


def test_a_shard_is_an_ordinary_tar_file_of_ordinary_arrays(shard):
    with tarfile.open(shard) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar.getmembers()} == {(0, 0, 0, "", 0o644)}
    assert list(members)[:2] == ["0123-000000.json", "0123-000000.pcm.npy"]
    assert json.loads(members["0123-000002.json"])["frames"] == 5
    assert json.loads(members["end.json"]) == {"runs": 3}
    for run, frames in samples():
        for name in NAMES:
            read = np.load(io.BytesIO(members[f"{run.key}.{name}.npy"]), allow_pickle=False)
            assert np.array_equal(read, frames[name])


def test_the_same_runs_give_the_same_bytes(shard, tmp_path):
    again = write(tmp_path / "again.tar")
    for kind in (".tar", ".json"):
        assert again.with_suffix(kind).read_bytes() == shard.with_suffix(kind).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.pop("bsm"), "k: field bsm is missing"),
        (
            lambda run: run.update(bsm=run["bsm"][..., :2]),
            r"field bsm is \|u1 \[2, 64, 2\], expected \|u1 \[2, 64, 3\]",
        ),
        (lambda run: run.update(bsm=run["bsm"].astype("<f4")), r"field bsm is <f4 \[2, 64, 3\], expected \|u1"),
        (lambda run: run.update(bsm=run["bsm"][:, 1:]), r"field bsm is \|u1 \[2, 63, 3\], expected \|u1 \[2, 64, 3\]"),
    ],
)
def test_wrong_runs_are_refused_and_leave_nothing(tmp_path, change, message: str):
    change(run := run_of())
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path / "s.tar", NAMES, {}, [(Run("k", "r", "", 0, 64, 2), run)])
    with pytest.raises(ValueError, match="field 'nothing', allowed"):
        write_shard(tmp_path / "s.tar", ["nothing"], {}, [])
    assert not list(tmp_path.iterdir())


def test_an_index_never_stands_beside_a_shard_that_is_not_its_own(tmp_path, monkeypatch):
    path = write(tmp_path / "s.tar")
    before = Shard(path).array(0, "pcm").copy()
    seen, real = [], os.replace

    def watch(source: Path, target: Path) -> None:
        seen.append((Path(target).name, path.with_suffix(".json").exists()))
        real(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write(path, seed=9)
    assert seen == [("s.tar", False), ("s.json", False)]
    assert not np.array_equal(Shard(path).array(0, "pcm"), before)


def test_verify_finds_any_changed_byte(shard):
    whole = shard.read_bytes()
    for place in (0, len(whole) - 1, *np.random.default_rng(0).integers(0, len(whole), 8).tolist()):
        spoilt = bytearray(whole)
        spoilt[place] ^= 4
        shard.write_bytes(spoilt)
        with pytest.raises(DataError, match=r"s-000000\.tar: SHA-256 \w+, but its index states"):
            Shard(shard).verify()


def test_half_a_shard_is_found_and_named(shard):
    index = shard.with_suffix(".json")
    kept = index.read_bytes()
    index.unlink()
    assert find_shards(shard.parent) == [shard]
    with pytest.raises(DataError, match=r"s-000000\.tar: no index s-000000\.json beside it, so .* not finished"):
        Shard(shard)
    index.write_bytes(kept)
    shard.unlink()
    assert find_shards(shard.parent) == [shard]
    with pytest.raises(DataError, match=r"s-000000\.tar: no file, not bytes, but its index states \d+"):
        Shard(shard)


def test_a_garbled_index_is_named(shard):
    path = shard.with_suffix(".json")
    index = json.loads(path.read_bytes())
    run = index["runs"][1]
    wrong_runs = [
        7, {**run, "frames": "64"}, {**run, "frames": -64}, {**run, "channels": 2.5}, {**run, "offsets": {}},
        {**run, "offsets": {**run["offsets"], "bsm": None}},
    ]  # fmt: skip
    changes = [{"runs": [one]} for one in wrong_runs]
    changes += [{"format": 2}, {"fields": {"bsm": [[3], "<f8"]}}, {"fields": {"other": [[3], "<f4"]}}, {"fields": [7]}]
    texts = ["", "{", "[]", "null", "7", '"x"', "[" * 5000, "{}", *(json.dumps({**index, **one}) for one in changes)]
    for text in (*map(str.encode, texts), b"\xff"):
        path.write_bytes(text)
        with pytest.raises(DataError, match=re.escape(f"{path}: the index is damaged")):
            Shard(shard)


@pytest.mark.parametrize("offset", [0, 1, 10**9, 10**30])
def test_a_wrong_offset_gives_no_values(shard, offset: int):
    index = json.loads(shard.with_suffix(".json").read_bytes())
    index["runs"][1]["offsets"]["bsm"] = offset
    shard.with_suffix(".json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=rf"0123-000001\.bsm\.npy is damaged: at byte {offset}, expected an array"):
        Shard(shard).array(1, "bsm")


def test_a_folder_without_shards_is_named(tmp_path):
    (tmp_path / ".abc.part").write_bytes(b"half")
    with pytest.raises(DataError, match="no shards"):
        find_shards(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where Linux lists them")
def test_many_shards_do_not_keep_many_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "_map", functools.lru_cache(4)(shards_module._map.__wrapped__))
    for i in range(12):
        frames = {"bsm": np.full((1, 1, 3), i, np.uint8)}
        write_shard(tmp_path / f"s-{i:06d}.tar", ["bsm"], {}, [(Run("k", "r", "", 0, 1, 1), frames)])
    before = len(os.listdir("/proc/self/fd"))
    opened = [Shard(path) for path in find_shards(tmp_path)]
    assert [int(shard.array(0, "bsm")[0, 0, 0]) for shard in opened] == list(range(12))
    assert len(os.listdir("/proc/self/fd")) <= before + 4
