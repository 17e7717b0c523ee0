from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from atrac_bitstream import AtracError
from atrac_codec import read_audio
from atrac_data import (
    FIELDS,
    SPLITS,
    Augmentation,
    BuiltinTeacher,
    DataError,
    Frames,
    Manifest,
    Settings,
    Shard,
    extract,
    find_shards,
    plan,
    remove_unfinished,
    scan,
)

SETTINGS = Settings(shard_seconds=0.5)
VARIED = Settings(("pcm", "units"), 0.5, Augmentation(True, (-6.0, 0.0), 0.7, (-12.0, -6.0)), 3, 11)
Stored = dict[tuple[str, int], NDArray[Any]]


def shards(folder: Path) -> list[Shard]:
    return [Shard(path) for split in SPLITS if (folder / split).exists() for path in find_shards(folder / split)]


def stored(folder: Path, field: str = "pcm") -> Stored:
    """Return a field of each recording and variant. Shape: [C, F, *shape] each."""
    parts: dict[tuple[str, int], list[NDArray[Any]]] = {}
    for shard in shards(folder):
        for i, run in enumerate(shard.runs):
            parts.setdefault((run.recording, run.variant), []).append(shard.array(i, field))
            assert run.first_frame == 64 * (len(parts[run.recording, run.variant]) - 1)
    return {key: np.concatenate(own, 1) for key, own in parts.items()}


def equal(one: Stored, other: Stored) -> set[tuple[str, int]]:
    """Return recordings and variants that are equal in both."""
    return {key for key in one.keys() & other.keys() if np.array_equal(one[key], other[key])}


class Teacher:
    """Gives `pcm` and nothing else, and counts what it was asked."""

    name = "counting"
    fields: tuple[str, ...] = ("pcm",)
    asked = 0

    def frames(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[Frames]:
        type(self).asked += 1
        for chunk in chunks:
            yield {"pcm": chunk.reshape(len(chunk), -1, 512)}


@pytest.fixture
def few(recordings: Path, tmp_path: Path) -> Path:
    """A copy of the recordings, to be changed."""
    return shutil.copytree(recordings, tmp_path / "few")


def test_every_sample_is_there_then_silence_until_the_codec_gave_back_the_last(extracted, recordings, manifest):
    found = stored(extracted)
    assert set(found) == {(recording.path, 0) for recording in manifest.recordings}
    for (path, _), frames in found.items():
        original, pcm = read_audio(recordings / path), frames.reshape(len(frames), -1)
        samples = original.shape[1]
        assert pcm.shape == (len(original), 512 * -(-(samples + 266) // 512))
        assert np.array_equal(pcm[:, :samples], original)
        assert not pcm[:, samples:].any()


def test_stored_fields_are_the_teachers_of_the_stored_samples(extracted, teacher):
    fields = {name: stored(extracted, name) for name in FIELDS}
    for key in [("a/long.wav", 0), ("a/mono.wav", 0)]:
        (truth,) = teacher.frames([fields["pcm"][key].reshape(len(fields["pcm"][key]), -1)])
        assert all(np.array_equal(fields[name][key], truth[name]) for name in FIELDS)


def test_long_recordings_are_handed_to_the_teacher_in_chunks(few, tmp_path):
    (few / "split.json").unlink()
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 512 * 1030 + 7).astype(np.float32)
    soundfile.write(few / "long.wav", sound, 44100, "FLOAT")
    long = Manifest(few, tuple(one for one in scan(few).recordings if one.path == "long.wav"))
    extract(long, Teacher(), tmp_path / "out")
    pcm = stored(tmp_path / "out")["long.wav", 0]
    assert pcm.shape == (1, 1031, 512)
    assert np.array_equal(pcm.reshape(-1)[: len(sound)], sound)


def test_no_recording_is_in_two_splits_and_licences_are_kept(extracted, manifest):
    found = {(s.path.parent.name, run.recording, run.licence) for s in shards(extracted) for run in s.runs}
    assert found == {(one.split, one.path, one.licence) for one in manifest.recordings}
    assert {licence for _, _, licence in found} == {"CC0", "CC-BY", "unknown"}
    for shard in shards(extracted):
        assert shard.fields == tuple(FIELDS)
        assert (shard.about["teacher"], shard.about["shard_seconds"]) == ("builtin bitexact, bitexact", 0.5)


def test_twice_gives_the_same_bytes_and_a_finished_folder_is_left(extracted, manifest, contents, tmp_path):
    written = extract(manifest, BuiltinTeacher(), tmp_path, SETTINGS)
    assert [str(path.relative_to(tmp_path)) for path in written] == [one.path for one in plan(manifest, SETTINGS)]
    assert contents(tmp_path) == contents(extracted)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    heard: list[float] = []
    assert extract(manifest, BuiltinTeacher(), tmp_path, SETTINGS, progress=heard.append) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert sum(heard) == pytest.approx(sum(one.seconds for one in plan(manifest)))


@pytest.mark.parametrize("world", [2, 5])
def test_ranks_together_give_the_same_bytes_as_one(manifest, contents, tmp_path, world: int):
    extract(manifest, Teacher(), tmp_path / "one", SETTINGS)
    written = [extract(manifest, Teacher(), tmp_path / "many", SETTINGS, rank=i, world=world) for i in range(world)]
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert len(set(itertools.chain(*written))) == sum(map(len, written)) == len(plan(manifest, SETTINGS))
    assert all(written[:2])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_anywhere_and_run_again_it_gives_the_same_bytes(recordings, tmp_path):
    killed = Path(__file__).parent / "killed.py"
    done = subprocess.run([sys.executable, killed, recordings, tmp_path], capture_output=True, text=True, check=True)
    moments = {moment.pop("moment"): moment for moment in map(json.loads, done.stdout.splitlines())}
    assert len(moments) > 15
    for name, moment in moments.items():
        assert moment["killed"], name
        assert moment["right"], f"{name}: what has an index is right at any moment"
        assert moment["same"], name
        assert sum(path.endswith(".part") for path in moment["left"]) == 1
    assert "extraction.json" not in moments["file 0"]["left"]
    assert "train/train-000000.tar" not in moments["file 1"]["left"]
    assert "train/train-000000.tar" in moments["file 2"]["left"]
    assert "train/train-000000.json" not in moments["file 2"]["left"]


def test_a_finished_shard_is_not_made_again_and_a_missing_one_is(manifest, contents, tmp_path):
    extract(manifest, Teacher(), tmp_path, SETTINGS)
    truth = contents(tmp_path)
    (tmp_path / "train/train-000001.json").unlink()
    (tmp_path / "test/test-000000.tar").unlink()
    (tmp_path / "train/.abc.part").write_bytes(b"left by a killed process")
    Teacher.asked = 0
    written = extract(manifest, Teacher(), tmp_path, SETTINGS)
    assert [path.name for path in written] == ["train-000001.tar", "test-000000.tar"]
    expected = [one for one in plan(manifest, SETTINGS) if one.path.endswith(("n-000001.tar", "t-000000.tar"))]
    assert Teacher.asked == sum(len(one.items) for one in expected)
    assert contents(tmp_path) == truth


def test_what_other_processes_write_is_left_alone_until_all_are_done(manifest, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/.abc.part").write_bytes(b"being written by rank 1")
    extract(manifest, Teacher(), tmp_path, SETTINGS, rank=0, world=2)
    assert (tmp_path / "train/.abc.part").exists()
    remove_unfinished(tmp_path)
    assert not list(tmp_path.rglob(".*"))


def test_a_damaged_finished_shard_is_named_and_left(manifest, tmp_path):
    extract(manifest, Teacher(), tmp_path, SETTINGS)
    shard = tmp_path / "train/train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-000000\.tar: \d+ bytes, but its index states"):
        extract(manifest, Teacher(), tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("fields", "settings", "file", "message"),
    [
        (("pcm", "bsm"), SETTINGS, None, r"fields \['pcm'\], not \['pcm', 'bsm'\]"),
        (("pcm",), Settings(shard_seconds=7), None, r"shard_seconds 0\.5, not 7"),
        (("pcm",), SETTINGS, "new.wav", r"recordings 7 of digest \w+, not 8 of digest \w+"),
        (("pcm",), SETTINGS, "d.wav", r"recordings 7 of digest \w+, not 7 of digest \w+"),
    ],
)
def test_a_folder_of_another_extraction_is_refused_and_left(few, contents, tmp_path, fields, settings, file, message):
    output, teacher = tmp_path / "out", Teacher()
    extract(scan(few), teacher, output, SETTINGS)
    before = contents(output)
    teacher.fields = fields
    if file:
        soundfile.write(few / file, np.zeros(700), 44100)
    with pytest.raises(DataError, match=rf"extraction\.json: the folder holds another extraction: {message}"):
        extract(scan(few), teacher, output, settings)
    assert contents(output) == before
    (output / "extraction.json").write_text("[1]")
    with pytest.raises(DataError, match=r"extraction\.json: no JSON object"):
        extract(scan(few), teacher, output, settings)


def test_a_recording_that_cannot_be_read_is_named_and_leaves_no_shard(few, contents, tmp_path):
    sound = np.zeros((9000, 1), np.float32)
    sound[8000] = np.nan
    soundfile.write(few / "a/nan.wav", sound, 44100, "FLOAT")
    with pytest.raises(AtracError, match=r"nan\.wav: sample 8000 of channel 0 is nan"):
        extract(Manifest(few, tuple(r for r in scan(few).recordings if "nan" in r.path)), Teacher(), tmp_path / "out")
    assert list(contents(tmp_path / "out")) == ["extraction.json"]
    (few / "broken.wav").write_bytes(b"RIFF is all there is")
    with pytest.raises(AtracError, match=r"broken\.wav: not read as audio"):
        extract(scan(few), Teacher(), tmp_path / "other")
    assert not (tmp_path / "other").exists(), "all recordings are looked at first"


def test_plans_put_whole_recordings_into_shards_of_about_the_length_asked_for(manifest):
    plans = plan(manifest, SETTINGS)
    items = [item for one in plans for item in one.items]
    assert [item.recording for item in items] == [r for split in SPLITS for r in manifest.of(split)]
    for one, following in itertools.pairwise(plans):
        split = one.path.split("/")[0]
        assert {item.recording.split for item in one.items} == {split}
        if following.path.startswith(split):
            assert one.seconds >= 0.5 > one.seconds - one.items[-1].seconds
    assert len(plan(manifest, Settings(shard_seconds=1e9))) == len(SPLITS)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"fields": ("x",)}, {}, "field 'x', allowed pcm"),
        ({"shard_seconds": 0}, {}, "shard_seconds = 0, allowed above 0"),
        ({"variants": 0}, {}, "variants = 0, allowed 1 and more"),
        ({"variants": 2}, {}, "variants = 2 with .*needs `augmentation` when `variants` > 1"),
        ({"augmentation": Augmentation(offset=True)}, {}, "variants = 1 with .*and the other way round"),
        ({"fields": ("pcm", "bsm")}, {}, "fields bsm: teacher counting does not give them"),
        ({}, {"rank": 1, "world": 1}, r"rank = 1, allowed 0\.\.0"),
        ({}, {"rank": -1, "world": 2}, r"rank = -1, allowed 0\.\.1"),
    ],
)
def test_what_is_outside_its_range_is_refused(manifest, tmp_path, settings: Any, options: Any, message: str):
    with pytest.raises(ValueError, match=message):
        extract(manifest, Teacher(), tmp_path / "out", Settings(**settings), **options)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def varied(manifest: Manifest, teacher: BuiltinTeacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("varied")
    extract(manifest, teacher, folder, VARIED)
    return folder


def test_augmentation_is_in_train_alone_and_the_recording_itself_stays(varied, extracted, manifest):
    found, plain = stored(varied), stored(extracted)
    assert set(found) == {(r.path, v) for r in manifest.recordings for v in range(3 if r.split == "train" else 1)}
    assert equal(found, plain) == set(plain)
    assert not any(np.array_equal(found[path, v], plain[path, 0]) for path, v in found if v)
    assert {shard.fields for shard in shards(varied)} == {("pcm", "units")}


def test_augmentation_is_the_same_every_time_and_another_with_another_seed(varied, manifest, tmp_path):
    extract(manifest, Teacher(), tmp_path / "a", Settings(("pcm",), 0.5, VARIED.augmentation, 3, 11))
    extract(manifest, Teacher(), tmp_path / "b", Settings(("pcm",), 0.5, VARIED.augmentation, 3, 12))
    found = stored(varied)
    assert equal(stored(tmp_path / "a"), found) == set(found)
    assert equal(stored(tmp_path / "b"), found) == {key for key in found if not key[1]}


def test_ground_truth_of_augmented_recordings_is_true(varied, teacher):
    pcm, units = stored(varied), stored(varied, "units")
    for key in [key for key in pcm if key[1]][:4]:
        (truth,) = teacher.frames([pcm[key].reshape(len(pcm[key]), -1)])
        assert np.array_equal(units[key], truth["units"])


def test_what_was_mixed_in_is_of_the_same_split_and_its_licence_counts(varied, manifest, tmp_path):
    licence = {recording.path: recording.licence for recording in manifest.recordings}
    train = {recording.path for recording in manifest.of("train")}
    mixed = [run for shard in shards(varied) for run in shard.runs if run.mixed_with]
    assert mixed
    for run in mixed:
        assert run.variant
        assert run.mixed_with in train - {run.recording}
        assert run.licence == " and ".join(sorted({licence[run.recording], licence[run.mixed_with]}))
    alone = Manifest(manifest.folder, manifest.of("train")[:1])
    extract(alone, Teacher(), tmp_path, Settings((), 60, Augmentation(mix=1.0, mix_level=(0.0, 0.0)), 2))
    itself, variant = stored(tmp_path).values()
    assert np.array_equal(itself, variant), "a recording alone is mixed with nothing"
