"""apps/extract.py from its command line: what it writes, what it reports, how it fails."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import matplotlib.image
import numpy as np
import pytest
import soundfile

from atrac_codec import read_audio
from atrac_data import FIELDS, FrameDataset, Shard, render

APPS = Path(__file__).parents[1] / "apps"


@pytest.fixture(scope="module")
def app() -> Iterator[ModuleType]:
    sys.path.insert(0, str(APPS))
    yield importlib.import_module("extract")
    sys.path.remove(str(APPS))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    splits = {}
    for i, (name, split) in enumerate([("music", "train"), ("attacks", "train"), ("speech", "test")]):
        soundfile.write(folder / f"{name}.wav", render(name, seconds=1.0, seed=i, channels=1 + i % 2).T, 44100)
        splits[f"{name}.wav"] = split
    (folder / "split.json").write_text(json.dumps(splits))
    (folder / "licences.json").write_text(json.dumps({"m*": "CC0", "*": "CC-BY"}))
    return folder


@pytest.fixture(scope="module")
def done(app: ModuleType, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("done")
    assert app.main([str(recordings), "-o", str(output)]) == 0
    return output


@pytest.fixture
def fails(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run it where it must fail; return what it says."""

    def fails(*argv: object, status: int = 1) -> str:
        try:
            assert app.main([str(argument) for argument in argv]) == status
        except SystemExit as error:
            assert error.code == status  # noqa: PT017
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return fails


def test_it_writes_shards_that_can_be_read(done):
    dataset = FrameDataset(done / "train")
    assert len(dataset) == 87 + 2 * 87
    assert set(dataset[0]) == set(FIELDS)
    assert len(FrameDataset(done / "test")) == 87


def test_a_second_call_writes_nothing_new(app, done, recordings, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.tar")}
    assert app.main([str(recordings), "-o", str(done), "--no-report"]) == 0
    assert "rank 0: 0 shards written, 2 were there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.tar")} == before


def test_the_report_has_counts_hours_and_statistics(done):
    report = json.loads((done / "report" / "report.json").read_text())
    assert report["teacher"] == "builtin bitexact, bitexact"
    train = report["splits"]["train"]
    assert (train["recordings"], train["shards"], train["frames"]) == (2, 1, 261)
    assert train["hours"] == pytest.approx(2 * 87 * 512 / 44100 / 3600)
    assert set(train["hours_by_licence"]) == {"CC0", "CC-BY"}
    assert sum(train["hours_by_licence"].values()) == pytest.approx(train["hours"])
    assert set(train["fields"]) == set(FIELDS)
    assert set(train["short_shares"]) == {"low", "mid", "high"}
    pcm = np.concatenate([run["pcm"].ravel() for run in FrameDataset(done / "train", ["pcm"]).runs()])
    assert train["fields"]["pcm"]["max"] == pcm.max()
    assert train["fields"]["pcm"]["std"] == pytest.approx(pcm.std(dtype=np.float64))
    runs = Shard(done / "train/train-000000.tar").runs
    assert train["sanity"] == {"arrays": len(runs) * len(FIELDS), "units": 261, "units_equal": 261}
    assert set(report["splits"]) == {"train", "test"}


def test_the_report_has_a_round_trip_to_look_at_and_to_listen_to(done):
    for split, name in (("train", "attacks.wav"), ("test", "speech.wav")):
        trip = json.loads((done / "report" / "report.json").read_text())["splits"][split]["round_trip"]
        assert trip["recording"] == name
        assert trip["delay"] == 266
        went_in, came_out = (read_audio(done / "report" / f"round-trip-{split}-{end}.wav") for end in ("in", "out"))
        assert went_in.shape == came_out.shape
        snr = 10 * np.log10(np.mean(went_in.astype(float) ** 2) / np.mean((came_out - went_in).astype(float) ** 2))
        assert trip["snr"] == pytest.approx(snr, abs=0.01)  # the files have 24 bits
        assert snr > 15
        assert trip["seconds"] == pytest.approx(went_in.shape[1] / 44100)


@pytest.mark.parametrize("name", ["histograms", "round-trip-train", "round-trip-test"])
def test_pictures_show_something(done, name: str):
    picture = matplotlib.image.imread(done / "report" / f"{name}.png")
    assert min(picture.shape[:2]) > 700
    assert len(np.unique(picture[::4, ::4].reshape(-1, picture.shape[2]), axis=0)) > 50


def test_a_chosen_field_is_reported_without_a_round_trip(app, recordings, tmp_path, capsys):
    assert app.main([str(recordings), "-o", str(tmp_path), "--fields", "bsm,idsf"]) == 0
    split = json.loads((tmp_path / "report" / "report.json").read_text())["splits"]["train"]
    assert set(split["fields"]) == {"bsm", "idsf"}
    assert "round_trip" not in split
    assert [path.name for path in (tmp_path / "report").glob("*.png")] == ["histograms.png"]
    assert "train: 8 arrays have their shapes and types" in capsys.readouterr().out


def test_augmented_recordings_are_taken_along(app, recordings, tmp_path):
    options = ["--variants", "2", "--offset", "--gain", "-6", "0", "--mix", "1", "--fields", "pcm", "--no-report"]
    assert app.main([str(recordings), "-o", str(tmp_path), *options]) == 0
    runs = Shard(tmp_path / "train/train-000000.tar").runs
    assert {(run.recording, run.variant, run.licence) for run in runs} == {
        ("attacks.wav", 0, "CC-BY"), ("music.wav", 0, "CC0"),
        ("attacks.wav", 1, "CC-BY and CC0"), ("music.wav", 1, "CC-BY and CC0"),
    }  # fmt: skip
    assert not (tmp_path / "report").exists()


def test_what_is_wrong_is_said_in_one_line(fails, done, recordings, tmp_path, monkeypatch):
    assert "nowhere is no folder" in fails(tmp_path / "nowhere", "-o", tmp_path / "out")
    assert "another extraction: shard_seconds 60.0, not 7.0" in fails(recordings, "-o", done, "--shard-seconds", 7)
    (tmp_path / "in").mkdir()
    assert "no recordings" in fails(tmp_path / "in", "-o", tmp_path / "out")
    (tmp_path / "in" / "a.wav").write_bytes(b"nothing")
    assert "a.wav: not read as audio" in fails(tmp_path / "in", "-o", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "pytrac", None)
    said = fails(recordings, "-o", tmp_path / "out", "--teacher", "pytrac")
    assert "pytrac is not installed; it is built from github.com/aynik/pytrac" in said
    assert not (tmp_path / "out").exists()


def test_wrong_arguments_exit_with_2(fails, recordings, tmp_path):
    out = ("-o", tmp_path / "out")
    assert "field 'x', allowed pcm" in fails(recordings, *out, "--fields", "pcm,x", status=2)
    assert "variants = 2" in fails(recordings, *out, "--variants", 2, status=2)
    assert "gain = (1.0, -1.0)" in fails(recordings, *out, "--variants", 2, "--gain", 1, -1, status=2)
    assert "whose recordings are to be read" in fails(recordings, "-o", recordings / "out", status=2)
    assert "required: -o/--output" in fails(recordings, status=2)
    assert not (tmp_path / "out").exists()


def test_two_ranks_render_the_built_in_corpus_and_share_it(app, tmp_path):
    options = ["--corpus-seconds", "0.1", "--shard-seconds", "2", "--fields", "units,pcm"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = subprocess.run(
        [*torchrun, APPS / "extract.py", "-o", tmp_path / "two", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "60 recordings, 0.1 minutes in 5 shards, teacher builtin bitexact, bitexact, 2 ranks" in two.stderr
    assert "rank 0: 3 shards written" in two.stdout
    assert "rank 1: 2 shards written" in two.stdout
    assert app.main(["-o", str(tmp_path / "one"), *options, "--no-report"]) == 0
    shards = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").glob("*/*-0*.[tj]*")]
    assert len(shards) == 10
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in shards)
    assert (tmp_path / "two" / "report" / "histograms.png").exists()
