"""apps/extract.py from its command line: what it writes, what it prints, how it fails."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from atrac_data import FIELDS, FrameDataset, Shard, render

APP = Path(__file__).parents[1] / "apps" / "extract.py"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def app(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the app; return exit code, standard output and standard error, the latter on one line without frames."""

    def call(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(APP), *map(str, argv)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(APP), run_name="__main__")
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return end.value.code, said.out, " ".join(said.err.replace("│", " ").split())

    return call


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for i, name in enumerate(("noise", "attacks", "pink_noise")):
        soundfile.write(folder / f"{name}.wav", render(name, seconds=0.3, seed=i, channels=1 + i % 2).T, 44100)
    (folder / "split.json").write_text('{"noise.wav": "train", "attacks.wav": "train", "pink_noise.wav": "test"}')
    (folder / "licences.json").write_text('{"n*": "CC0", "*": "CC-BY"}')
    return folder


def test_it_writes_shards_and_a_report_and_goes_on_where_it_was(app: Call, recordings: Path, tmp_path: Path):
    code, printed, said = app(recordings, "-o", tmp_path)
    assert (code, printed.splitlines()[0]) == (0, "rank 0: 2 shards written, 0 were there")
    assert "3 recordings, 0.0 minutes in 2 shards, teacher builtin bitexact, bitexact, ranks: 1" in said
    assert set(FrameDataset(tmp_path / "train").fields) == set(FIELDS)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {split: (one["recordings"], one["frames"]) for split, one in report.items()} == {
        "train": (2, 27 * 3), "test": (1, 27),
    }  # fmt: skip
    assert [line.split()[:2] for line in printed.splitlines()[2:]] == [["train", "2"], ["test", "1"]]
    assert app(recordings, "-o", tmp_path)[1].startswith("rank 0: 0 shards written, 2 were there")
    code, _, said = app(recordings, "-o", tmp_path, "--shard-seconds", 7)
    assert (code, "holds another extraction: shard_seconds 60.0, not 7.0" in said) == (1, True)


def test_options_become_settings(app: Call, recordings: Path, tmp_path: Path):
    options = ["--variants", 2, "--offset", "--gain", -6, 0, "--mix", 1, "--fields", "pcm", "idsf"]
    assert app(recordings, "-o", tmp_path, *options, "--shard-seconds", 0.1)[0] == 0
    shards = [Shard(path) for path in sorted(tmp_path.glob("train/*.tar"))]
    assert {shard.fields for shard in shards} == {("pcm", "idsf")}
    assert [[(run.recording, run.variant, run.licence) for run in shard.runs] for shard in shards] == [
        [("attacks.wav", 0, "CC-BY")], [("noise.wav", 0, "CC0")],
        [("attacks.wav", 1, "CC-BY and CC0")], [("noise.wav", 1, "CC-BY and CC0")],
    ]  # fmt: skip


def test_what_is_wrong_is_said_in_one_line(app: Call, recordings: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytrac", None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"nothing")
    out = ("-o", tmp_path / "out")
    for arguments, status, message in (
        ((tmp_path / "nowhere",), 1, "nowhere is no folder"),
        ((tmp_path / "in",), 1, "a.wav: not read as audio"),
        ((recordings, "--teacher", "pytrac"), 1, "pytrac is not installed"),
        ((recordings, "--fields", "pcm", "x"), 2, "field 'x', allowed pcm"),
        ((recordings, "--variants", 2), 2, "variants = 2"),
        ((recordings, "--variants", 2, "--gain", 1, -1), 2, "gain = (1.0, -1.0)"),
        ((recordings, "-o", recordings / "out"), 2, "whose recordings are to be read"),
    ):
        code, _, said = app(*out, *arguments)
        assert (code, message in said) == (status, True), said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_ranks_render_the_built_in_corpus_and_share_it(app: Call, tmp_path: Path):
    options = ["--corpus-seconds", "0.1", "--shard-seconds", "2", "--fields", "units", "pcm"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, APP, "-o", tmp_path / "two", *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    two = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "60 recordings, 0.1 minutes in 5 shards, teacher builtin bitexact, bitexact, ranks: 2" in two.stderr
    assert "rank 0: 3 shards written" in two.stdout
    assert "rank 1: 2 shards written" in two.stdout
    assert app("-o", tmp_path / "one", *options)[0] == 0
    one, both = (
        {p.relative_to(o): p.read_bytes() for p in o.rglob("*.[tj]*")} for o in (tmp_path / "one", tmp_path / "two")
    )
    assert one == both
