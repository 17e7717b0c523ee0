from __future__ import annotations

import io
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

import atrac_data.shards as shards_module
from atrac_data import FIELDS, DataError, Frames, Shard, ShardWriter, find_shards
from atrac_data.shards import npy_header, read_npy, runs_of, write_whole

NAMES = ("pcm", "bsm", "n_bfu", "quantized")


def run_of(frames: int = 64, channels: int = 2, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    return {n: rng.integers(0, 99, (channels, frames, *FIELDS[n].shape)).astype(FIELDS[n].dtype) for n in NAMES}


def write(path: Path, runs: int = 3) -> list[Frames]:
    written = [run_of(64 if i < runs - 1 else 5, seed=i) for i in range(runs)]
    with ShardWriter(path, NAMES, {"teacher": "none"}) as writer:
        for i, run in enumerate(written):
            writer.add("a b/ö.wav", "0123", "CC0", 64 * i, run)
    return written


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    write(tmp_path / "s-000000.tar")
    return tmp_path / "s-000000.tar"


def test_what_was_written_is_read_again(tmp_path):
    written = write(tmp_path / "s.tar")
    shard = Shard(tmp_path / "s.json")
    assert shard.path == tmp_path / "s.tar"
    assert shard.fields == NAMES
    assert shard.about == {"teacher": "none"}
    for i, run in enumerate(written):
        about = shard.runs[i]
        assert (about.key, about.recording, about.licence) == (f"0123-{i:06d}", "a b/ö.wav", "CC0")
        assert (about.first_frame, about.frames, about.channels) == (64 * i, 64 if i < 2 else 5, 2)
        for name in NAMES:
            array = shard.array(i, name)
            assert np.array_equal(array, run[name])
            assert array.dtype == FIELDS[name].dtype
            assert not array.flags.writeable
    shard.verify()


def test_a_shard_is_an_ordinary_tar_file_of_ordinary_arrays(shard):
    with tarfile.open(shard) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar.getmembers()} == {(0, 0, 0, "", 0o644)}
    assert list(members)[:2] == ["0123-000000.json", "0123-000000.pcm.npy"]
    assert json.loads(members["0123-000002.json"])["frames"] == 5
    assert json.loads(members["end.json"]) == {"runs": 3}
    for i, run in enumerate([run_of(seed=0), run_of(seed=1), run_of(5, seed=2)]):
        for name in NAMES:
            read = np.load(io.BytesIO(members[f"0123-{i:06d}.{name}.npy"]), allow_pickle=False)
            assert np.array_equal(read, run[name])


def test_the_same_runs_give_the_same_bytes(tmp_path):
    write(tmp_path / "a.tar")
    write(tmp_path / "b.tar")
    for kind in ("tar", "json"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize("shape", [(2, 64), (1, 5, 3), (2, 64, 512), (2, 10**6, 212)])
@pytest.mark.parametrize("dtype", ["<f4", "<i2", "|u1"])
def test_headers_are_those_of_npy_files_version_1(shape: tuple[int, ...], dtype: str):
    header = npy_header(shape, np.dtype(dtype))
    assert len(header) % 64 == 0
    stream = io.BytesIO(header)
    assert np.lib.format.read_magic(stream) == (1, 0)
    assert np.lib.format.read_array_header_1_0(stream) == (shape, False, np.dtype(dtype))
    assert not stream.read()


def test_wrong_runs_are_refused(tmp_path):
    writer = ShardWriter(tmp_path / "s.tar", NAMES, {})
    for change, message in {
        "missing": "field bsm is missing",
        "dtype": r"field bsm is \|u1 \[2, 64, 2\], expected \|u1 \[2, 64, 3\]",
        "shape": r"field bsm is <f4 \[2, 64, 3\], expected \|u1 \[2, 64, 3\]",
        "leading": r"field bsm is \|u1 \[2, 63, 3\], expected \|u1 \[2, 64, 3\]",
    }.items():
        run = run_of()
        bsm = run.pop("bsm")
        if change != "missing":
            run["bsm"] = {"dtype": bsm[..., :2], "shape": bsm.astype("<f4"), "leading": bsm[:, 1:]}[change]
        with pytest.raises(ValueError, match=message):
            writer.add("r", "k", "", 0, run)
    with pytest.raises(ValueError, match=r"field pcm is <f4 \[2, 0, 512\], expected <f4 \['C', 'F', 512\]"):
        writer.add("r", "k", "", 0, run_of(0))
    writer.abort()
    with pytest.raises(ValueError, match="field 'nothing', allowed"):
        ShardWriter(tmp_path / "s.tar", ["nothing"], {})
    assert not list(tmp_path.iterdir())


def test_a_failing_writer_leaves_nothing(tmp_path):
    def fail() -> None:
        with ShardWriter(tmp_path / "s.tar", NAMES, {}) as writer:
            writer.add("r", "k", "", 0, run_of())
            raise RuntimeError("teacher fell ill")

    with pytest.raises(RuntimeError, match="teacher fell ill"):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_full_disk_leaves_no_finished_shard(tmp_path, monkeypatch, function: str, call: int):
    real, calls = getattr(os, function), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "s.tar")
    assert [path.name for path in tmp_path.iterdir()] in ([], ["s.tar"])
    monkeypatch.undo()
    write(tmp_path / "s.tar")
    Shard(tmp_path / "s.tar").verify()


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    write(tmp_path / "s-000000.tar")
    for name in (".s-000001.abc.part", ".s-000001.def.part", ".s-000002.abc.part", ".s-00000.abc.part"):
        (tmp_path / name).write_bytes(b"half")
    write(tmp_path / "s-000001.tar")
    assert {path.name for path in tmp_path.iterdir()} == {
        "s-000000.tar", "s-000000.json", "s-000001.tar", "s-000001.json", ".s-000002.abc.part", ".s-00000.abc.part"
    }  # fmt: skip


def test_two_writers_of_one_shard_do_not_write_into_one_file(tmp_path):
    first = ShardWriter(tmp_path / "s.tar", NAMES, {})
    first.add("r", "k", "", 0, run_of())
    second = ShardWriter(tmp_path / "s.tar", NAMES, {})
    second.add("r", "k", "", 0, run_of())
    second.close()
    with pytest.raises(FileNotFoundError):
        first.close()
    assert not list(tmp_path.glob(".*"))


def test_an_index_never_stands_beside_a_shard_that_is_not_its_own(tmp_path, monkeypatch):
    write(tmp_path / "s.tar")
    seen = []
    real = os.replace

    def watch(source: Path, target: Path) -> None:
        seen.append((Path(target).name, (tmp_path / "s.json").exists()))
        real(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write(tmp_path / "s.tar", runs=1)
    assert seen == [("s.tar", False), ("s.json", False)]
    assert len(Shard(tmp_path / "s.tar").runs) == 1


def test_a_shard_written_anew_is_read_anew(tmp_path):
    write(tmp_path / "s.tar")
    before = Shard(tmp_path / "s.tar").array(0, "pcm").copy()
    with ShardWriter(tmp_path / "s.tar", NAMES, {}) as writer:
        writer.add("r", "k", "", 0, run_of(seed=9))
    assert not np.array_equal(Shard(tmp_path / "s.tar").array(0, "pcm"), before)


def test_verify_finds_any_changed_byte(shard):
    whole = shard.read_bytes()
    rng = np.random.default_rng(0)
    for place in (0, len(whole) - 1, *rng.integers(0, len(whole), 30).tolist()):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(spoilt)
        with pytest.raises(DataError, match=r"s-000000\.tar: SHA-256 \w+, but its index states"):
            Shard(shard).verify()
    shard.write_bytes(whole)
    Shard(shard).verify()


def test_a_shard_without_index_and_an_index_without_shard_are_named(shard):
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


def test_a_cut_shard_is_named(shard):
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=rf"s-000000\.tar: {len(whole) - 1} bytes, but its index states {len(whole)}"):
        Shard(shard)


def test_a_garbled_index_is_named(shard):
    path = shard.with_suffix(".json")
    index = json.loads(path.read_bytes())
    run = index["runs"][1]
    for garbled in (
        "", "{", "[]", "null", "7", '"x"', "[" * 5000, "\ud800".encode("utf-8", "surrogatepass"),
        json.dumps({**index, "format": 2}),
        json.dumps({k: v for k, v in index.items() if k != "runs"}),
        json.dumps({**index, "runs": [7]}),
        json.dumps({**index, "runs": [{**run, "frames": "64"}]}),
        json.dumps({**index, "runs": [{**run, "frames": -64}]}),
        json.dumps({**index, "runs": [{**run, "channels": 2.5}]}),
        json.dumps({**index, "runs": [{**run, "offsets": {}}]}),
        json.dumps({**index, "runs": [{**run, "offsets": {**run["offsets"], "bsm": None}}]}),
        json.dumps({**index, "fields": {"bsm": [[3], "<f8"]}}),
        json.dumps({**index, "fields": {"other": [[3], "<f4"]}}),
        json.dumps({**index, "fields": ["bsm"]}),
    ):  # fmt: skip
        path.write_bytes(garbled if isinstance(garbled, bytes) else garbled.encode())
        with pytest.raises(DataError, match=re.escape(str(path))):
            Shard(shard)


def test_wrong_offsets_give_no_values(shard):
    path = shard.with_suffix(".json")
    index = json.loads(path.read_bytes())
    for offset in (0, 1, 10**9, 10**30):
        index["runs"][1]["offsets"]["bsm"] = offset
        path.write_text(json.dumps(index))
        with pytest.raises(
            DataError, match=r"s-000000\.tar: 0123-000001\.bsm\.npy is damaged: at byte \d+ there is no"
        ):
            Shard(shard).array(1, "bsm")


def test_a_damaged_header_is_named_with_key_and_field(shard):
    start = Shard(shard).runs[1].offsets["bsm"]
    whole = shard.read_bytes()
    for place in range(start, start + 100, 7):
        spoilt = bytearray(whole)
        spoilt[place] ^= 4
        shard.write_bytes(spoilt)
        with pytest.raises(DataError, match=r"s-000000\.tar: 0123-000001\.bsm\.npy is damaged"):
            Shard(shard).array(1, "bsm")
        assert Shard(shard).array(1, "pcm").shape == (2, 64, 512)


def test_a_missing_field_is_named(shard):
    with pytest.raises(DataError, match=r"s-000000\.tar: 0123-000000 has no field 'idwl', it has pcm, bsm, n_bfu, qua"):
        Shard(shard).array(0, "idwl")


def test_a_folder_without_shards_is_named(tmp_path):
    (tmp_path / ".s.abc.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(DataError, match="no shards"):
        find_shards(tmp_path)


def test_many_shards_do_not_keep_many_files_open(tmp_path, monkeypatch):
    for i in range(200):
        with ShardWriter(tmp_path / f"s-{i:06d}.tar", ["bsm"], {}) as writer:
            writer.add("r", "k", "", 0, {"bsm": np.full((1, 1, 3), i, np.uint8)})
    opened = [Shard(path) for path in find_shards(tmp_path)]
    assert [int(shard.array(0, "bsm")[0, 0, 0]) for shard in opened] == [i % 256 for i in range(200)]
    assert shards_module._map.cache_info().currsize <= shards_module._OPEN_SHARDS
    assert len(os.listdir("/proc/self/fd")) < 200 if Path("/proc/self/fd").exists() else True


def test_arrays_from_bytes_are_this_array_or_refused():
    array = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    stream = io.BytesIO()
    np.save(stream, array)
    own = npy_header((1, 2, 3), np.dtype("|u1")) + array.tobytes()
    assert np.array_equal(read_npy(own, "bsm", (1, 2), "here"), array)
    for wrong in (own[:-1], own + b"\0", b"", own[:50], b"\x80" + own[1:], own.replace(b"u1", b"i1")):
        with pytest.raises(DataError, match=r"here\.bsm\.npy is damaged: .* expected an array of shape \[1, 2, 3\]"):
            read_npy(wrong, "bsm", (1, 2), "here")
    for leading in ((2, 1), (1, 1), (10**12, 10**12)):
        with pytest.raises(DataError):
            read_npy(own, "bsm", leading, "here")


def test_runs_are_64_frames_but_for_the_last():
    chunks = [{"bsm": np.full((1, n, 3), i, np.uint8)} for i, n in enumerate((128, 64, 70))]
    runs = list(runs_of(chunks))
    assert [run["bsm"].shape[1] for run in runs] == [64, 64, 64, 64, 6]
    joined = np.concatenate([run["bsm"] for run in runs], axis=1)
    assert np.array_equal(joined, np.concatenate([chunk["bsm"] for chunk in chunks], axis=1))


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_whole(tmp_path / "x.json", b"one")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "x.json", b"two")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"one"]
