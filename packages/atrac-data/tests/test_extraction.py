from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from atrac_bitstream import AtracError
from atrac_codec import AudioError, read_audio
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
    scan,
)

SETTINGS = Settings(shard_seconds=0.5)
VARIED = Settings(("pcm", "units"), 0.5, Augmentation(True, (-6.0, 0.0), 0.7, (-12.0, -6.0)), 3, 11)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shards(folder: Path) -> list[Shard]:
    return [Shard(path) for split in SPLITS for path in find_shards(folder / split)]


def recorded(folder: Path) -> dict[tuple[str, int], NDArray[np.float32]]:
    """Return the stored PCM of each recording and variant. Shape: [C, 512 F] each."""
    parts: dict[tuple[str, int], list[NDArray[np.float32]]] = {}
    for shard in shards(folder):
        for i, run in enumerate(shard.runs):
            parts.setdefault((run.recording, run.variant), []).append(shard.array(i, "pcm"))
            assert run.first_frame == 64 * (len(parts[run.recording, run.variant]) - 1)
    return {key: np.concatenate(own, 1).reshape(len(own[0]), -1) for key, own in parts.items()}


class Teacher:
    """Gives `pcm` and nothing else, and counts what it was asked."""

    name = "counting"
    fields = ("pcm",)
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
    stored = recorded(extracted)
    assert {path for path, _ in stored} == {recording.path for recording in manifest.recordings}
    for (path, variant), pcm in stored.items():
        original = read_audio(recordings / path)
        samples = original.shape[1]
        assert variant == 0
        assert pcm.shape == (len(original), 512 * -(-(samples + 266) // 512))
        assert np.array_equal(pcm[:, :samples], original)
        assert not pcm[:, samples:].any()


def test_stored_fields_are_the_teachers_of_the_stored_samples(extracted, teacher):
    for shard in shards(extracted)[:2]:
        for recording in {run.recording for run in shard.runs}:
            runs = [i for i, run in enumerate(shard.runs) if run.recording == recording]
            pcm = np.concatenate([shard.array(i, "pcm") for i in runs], 1)
            (truth,) = teacher.frames([pcm.reshape(len(pcm), -1)])
            for name in FIELDS:
                assert np.array_equal(np.concatenate([shard.array(i, name) for i in runs], 1), truth[name])


def test_no_recording_is_in_two_splits_and_each_in_its_own(extracted, manifest):
    seen = {split: {r.recording for p in find_shards(extracted / split) for r in Shard(p).runs} for split in SPLITS}
    assert seen == {split: {recording.path for recording in manifest.of(split)} for split in SPLITS}
    keys = [{run.key for p in find_shards(extracted / split) for run in Shard(p).runs} for split in SPLITS]
    assert not keys[0] & keys[1] | keys[0] & keys[2] | keys[1] & keys[2]


def test_licences_are_kept_with_every_run(extracted):
    licences = {run.recording: run.licence for shard in shards(extracted) for run in shard.runs}
    assert licences["a/long.wav"] == "CC0"
    assert licences["b/short.wav"] == "CC-BY"
    assert licences["b/other rate.flac"] == "unknown"


def test_shards_are_whole_and_say_what_they_are(extracted, teacher):
    for shard in shards(extracted):
        shard.verify()
        assert shard.fields == tuple(FIELDS)
        assert shard.about["teacher"] == teacher.name == "builtin bitexact, bitexact"
        assert shard.about["settings"]["shard_seconds"] == 0.5
    assert len(find_shards(extracted / "train")) > 2


def test_twice_gives_the_same_bytes(extracted, manifest, tmp_path):
    written = extract(manifest, BuiltinTeacher(), tmp_path / "again", SETTINGS)
    assert contents(tmp_path / "again") == contents(extracted)
    assert [str(p.relative_to(tmp_path / "again")) for p in written] == [one.path for one in plan(manifest, SETTINGS)]


def test_a_second_run_does_nothing_and_says_so(extracted, manifest):
    before = {path: path.stat().st_mtime_ns for path in extracted.rglob("*")}
    heard: list[float] = []
    assert extract(manifest, BuiltinTeacher(), extracted, SETTINGS, progress=heard.append) == []
    assert {path: path.stat().st_mtime_ns for path in extracted.rglob("*")} == before
    assert sum(heard) == pytest.approx(sum(one.seconds for one in plan(manifest)))


@pytest.mark.parametrize("world", [2, 5])
def test_ranks_together_give_the_same_bytes_as_one(extracted, manifest, teacher, tmp_path, world: int):
    written = [extract(manifest, teacher, tmp_path, SETTINGS, rank=rank, world=world) for rank in range(world)]
    assert contents(tmp_path) == contents(extracted)
    everything = [path for own in written for path in own]
    assert len(everything) == len(set(everything)) == len(plan(manifest, SETTINGS))
    assert all(len(own) >= 1 for own in written[:2])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_ten_random_moments_and_run_again_it_gives_the_same_bytes(recordings, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    killed = Path(__file__).parent / "killed.py"
    done = subprocess.run(
        [sys.executable, killed, recordings, scratch],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    moments, ends = lines[:-5], lines[-5:]
    assert all(moment["right"] for moment in moments), "what has an index is right at any moment"
    assert all(end["same"] for end in ends)
    assert [moment["moment"].split()[0] for moment in moments] == ["byte"] * 10 + ["replacement"] * 3
    assert sum(moment["killed"] for moment in moments[:10]) >= 8, "the others were done before"
    assert all(moment["killed"] for moment in moments[10:])
    assert any(name.endswith(".part") for moment in moments for name in moment["left"])
    assert moments[10]["left"][0].startswith(".extraction.")
    assert "train/train-000000.tar" not in moments[11]["left"]
    assert "train/train-000000.tar" in moments[12]["left"]
    assert "train/train-000000.json" not in moments[12]["left"]


def test_a_finished_shard_is_not_made_again_and_a_missing_one_is(manifest, tmp_path):
    extract(manifest, Teacher(), tmp_path, SETTINGS)
    truth = contents(tmp_path)
    (tmp_path / "train/train-000001.json").unlink()
    (tmp_path / "test/test-000000.tar").unlink()
    (tmp_path / "train/.train-000001.abc.part").write_bytes(b"stale")
    (tmp_path / ".extraction.abc.part").write_bytes(b"stale")
    Teacher.asked = 0
    written = extract(manifest, Teacher(), tmp_path, SETTINGS)
    assert [path.name for path in written] == ["train-000001.tar", "test-000000.tar"]
    expected = [one for one in plan(manifest, SETTINGS) if one.path.endswith(("n-000001.tar", "t-000000.tar"))]
    assert Teacher.asked == sum(len(one.items) for one in expected)
    assert contents(tmp_path) == truth


def test_a_damaged_finished_shard_is_named_and_left(manifest, tmp_path):
    extract(manifest, Teacher(), tmp_path, SETTINGS)
    shard = tmp_path / "train/train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-000000\.tar: \d+ bytes, but its index states"):
        extract(manifest, Teacher(), tmp_path, SETTINGS)


def test_a_failing_teacher_leaves_no_part_of_a_shard(manifest, tmp_path):
    class Ill(Teacher):
        def frames(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[Frames]:
            yield from super().frames(chunks)
            raise RuntimeError("ill")

    with pytest.raises(RuntimeError, match="ill"):
        extract(manifest, Ill(), tmp_path, SETTINGS)
    assert list(contents(tmp_path)) == ["extraction.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("teacher", r"another extraction: teacher counting, not builtin reference, standard"),
        ("settings", r"another extraction: shard_seconds 0\.5, not 7"),
        ("fields", r"another extraction: .*fields \['pcm'\], not \['pcm', 'bsm'\]"),
        ("recordings", r"another extraction: of other recordings, licences or splits"),
        ("size", r"another extraction: of other recordings, licences or splits"),
        ("garbled", r"another extraction: its settings cannot be read"),
    ],
)
def test_a_folder_of_another_extraction_is_refused_and_left(few, tmp_path, change: str, message: str):
    output = tmp_path / "out"
    extract(scan(few), Teacher(), output, SETTINGS)
    teacher, settings = Teacher(), SETTINGS
    if change == "teacher":
        teacher = BuiltinTeacher("reference", "standard")
        settings = Settings(("pcm",), 0.5)
    elif change == "settings":
        settings = Settings(shard_seconds=7)
    elif change == "fields":
        teacher.fields = ("pcm", "bsm")
    elif change == "recordings":
        soundfile.write(few / "new.wav", np.zeros(700), 44100)
    elif change == "size":
        sound, rate = soundfile.read(few / "d.wav")
        soundfile.write(few / "d.wav", sound, rate, "PCM_16")
    else:
        (output / "extraction.json").write_text("{}")
    before = contents(output)
    with pytest.raises(DataError, match=rf"extraction\.json: the folder holds {message}"):
        extract(scan(few), teacher, output, settings)
    assert contents(output) == before


def test_an_unreadable_recording_is_named_before_anything_is_written(few, tmp_path):
    (few / "broken.wav").write_bytes(b"RIFF is all there is")
    with pytest.raises(AudioError, match=r"broken\.wav: not read as audio"):
        extract(scan(few), Teacher(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recording_that_breaks_in_the_midst_is_named_and_leaves_no_shard(few, tmp_path):
    sound = np.zeros((9000, 1), np.float32)
    sound[8000] = np.nan
    soundfile.write(few / "a/nan.wav", sound, 44100, "FLOAT")
    with pytest.raises(AtracError, match=r"nan\.wav: sample 8000 of channel 0 is nan"):
        extract(Manifest(few, tuple(r for r in scan(few).recordings if "nan" in r.path)), Teacher(), tmp_path / "out")
    assert list(contents(tmp_path / "out")) == ["extraction.json"]


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


def test_chosen_fields_alone_are_written(manifest, teacher, tmp_path):
    extract(manifest, teacher, tmp_path, Settings(("bsm", "pcm"), 0.5))
    assert {shard.fields for shard in shards(tmp_path)} == {("bsm", "pcm")}


def test_settings_outside_their_range_are_refused(manifest, tmp_path):
    with pytest.raises(ValueError, match="field 'x', allowed pcm"):
        Settings(("x",))
    with pytest.raises(ValueError, match=r"shard_seconds = 0, allowed above 0"):
        Settings(shard_seconds=0)
    with pytest.raises(ValueError, match=r"variants = 0, allowed 1 and more"):
        Settings(variants=0)
    with pytest.raises(ValueError, match=r"variants = 2 with .*one goes with the other"):
        Settings(variants=2)
    with pytest.raises(ValueError, match=r"variants = 1 with .*one goes with the other"):
        Settings(augmentation=Augmentation(offset=True))
    with pytest.raises(ValueError, match="fields bsm: teacher counting does not give them"):
        extract(manifest, Teacher(), tmp_path / "out", Settings(("pcm", "bsm")))
    for rank, world in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=rf"rank = {rank}, allowed"):
            extract(manifest, Teacher(), tmp_path / "out", rank=rank, world=world)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def varied(manifest: Manifest, teacher: BuiltinTeacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("varied")
    extract(manifest, teacher, folder, VARIED)
    return folder


def test_augmentation_is_in_train_alone_and_the_recording_itself_stays(varied, extracted, manifest):
    stored, plain = recorded(varied), recorded(extracted)
    assert set(stored) == {(r.path, v) for r in manifest.recordings for v in range(3 if r.split == "train" else 1)}
    for (path, variant), pcm in stored.items():
        same = pcm.shape == plain[path, 0].shape and np.array_equal(pcm, plain[path, 0])
        assert same == (variant == 0)


def test_augmentation_is_the_same_every_time_and_another_with_another_seed(varied, manifest, tmp_path):
    extract(manifest, Teacher(), tmp_path / "a", Settings(("pcm",), 0.5, VARIED.augmentation, 3, 11))
    extract(manifest, Teacher(), tmp_path / "b", Settings(("pcm",), 0.5, VARIED.augmentation, 3, 12))
    again, other, stored = recorded(tmp_path / "a"), recorded(tmp_path / "b"), recorded(varied)
    assert all(np.array_equal(again[key], stored[key]) for key in stored)
    assert all(key[1] == 0 or not np.array_equal(other[key], stored[key]) for key in stored)


def test_ground_truth_of_augmented_recordings_is_true(varied, teacher):
    stored = recorded(varied)
    units: dict[tuple[str, int], list[NDArray[np.uint8]]] = {}
    for shard in shards(varied):
        for i, run in enumerate(shard.runs):
            units.setdefault((run.recording, run.variant), []).append(shard.array(i, "units"))
    for key in [key for key in stored if key[1]]:
        (truth,) = teacher.frames([stored[key]])
        assert np.array_equal(np.concatenate(units[key], 1), truth["units"])


def test_what_was_mixed_in_is_of_the_same_split_and_its_licence_counts(varied, manifest):
    licence = {recording.path: recording.licence for recording in manifest.recordings}
    train = {recording.path for recording in manifest.of("train")}
    mixed = {(r.recording, r.mixed_with, r.licence) for s in shards(varied) for r in s.runs if r.mixed_with}
    assert mixed
    for path, other, own in mixed:
        assert other in train - {path}
        assert own == " and ".join(sorted({licence[path], licence[other]}))
    assert all(run.variant for shard in shards(varied) for run in shard.runs if run.mixed_with)


def test_a_recording_alone_is_mixed_with_nothing(manifest, tmp_path):
    alone = Manifest(manifest.folder, manifest.of("train")[:1])
    extract(alone, Teacher(), tmp_path, Settings((), 60, Augmentation(mix=1.0, mix_level=(0.0, 0.0)), 2))
    stored = recorded_in(tmp_path / "train")
    assert np.array_equal(stored[0], stored[1])


def recorded_in(folder: Path) -> list[NDArray[np.float32]]:
    (shard,) = (Shard(path) for path in find_shards(folder))
    return [
        np.concatenate([shard.array(i, "pcm") for i, run in enumerate(shard.runs) if run.variant == variant], 1)
        for variant in (0, 1)
    ]
