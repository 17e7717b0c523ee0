"""apps/evaluate.py: encoders and decoders side by side, in numbers that hold against the measures themselves."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from atrac_data import render

sys.path.insert(0, str(Path(__file__).parents[1] / "apps"))

import evaluate
from evaluation.scores import SCORES

ENCODE = [sys.executable, "-m", "atrac_codec.cli", "encode", "--force", "--preset", "bitexact"]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name, seconds in (("music", 0.6), ("attacks", 0.5), ("noise", 0.1)):
        soundfile.write(folder / f"{name}.wav", render(name, seconds=seconds, seed=5, channels=2).T, 44100)
    splits = {"music.wav": "test", "attacks.wav": "test", "noise.wav": "train"}
    (folder / "split.json").write_text(json.dumps(splits))
    return folder


def rows(folder: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    content = json.loads((folder / "evaluation.json").read_text())
    return {(row["recording"], row["encoder"], row["decoder"]): row for row in content}


def test_presets_peers_and_decoders_are_measured_on_the_same_files(recordings: Path, tmp_path: Path, capsys):
    peer = f"peer={shlex.join(ENCODE)} {{in}} -o {{out}}"
    argv = [str(recordings), "-o", str(tmp_path / "out"), "--encoder", "bitexact", "--encoder", "neural-finetuned"]
    assert evaluate.main([*argv, "--peer", peer, "--decoder", "ffmpeg", "--decoder", "standard"]) == 0
    found = rows(tmp_path / "out")
    assert {name for name, _, _ in found} == {"music.wav", "attacks.wav"}
    assert len(found) == 2 * 3 * 2
    for (recording, encoder, decoder), row in found.items():
        assert row["over budget"] == 0
        assert row["units"] == 2 * 8 * -(-(round(row["seconds"] * 44100) + 266) // 4096)
        same = found[
            recording, "bitexact" if encoder == "peer" else encoder, "ffmpeg" if decoder == "standard" else decoder
        ]
        assert all(row[name] == pytest.approx(same[name], abs=2e-3) for name in SCORES)
    music = found["music.wav", "bitexact", "ffmpeg"], found["music.wav", "neural-finetuned", "ffmpeg"]
    assert music[0]["SNR (dB)"] > 20
    assert music[1]["NMR (dB)"] < music[0]["NMR (dB)"]
    said = " ".join(capsys.readouterr().out.split())
    assert "means over 2 recordings" in said
    assert "2 better" in said


def test_length_and_split_choose_recordings(recordings: Path, tmp_path: Path, capsys):
    argv = [str(recordings), "-o", str(tmp_path / "out"), "--encoder", "reference"]
    assert evaluate.main([*argv, "--split", "all", "--shortest", "0.3", "--longest", "0.4"]) == 0
    found = rows(tmp_path / "out")
    assert {name for name, _, _ in found} == {"music.wav", "attacks.wav"}
    assert all(row["seconds"] == 0.4 for row in found.values())
    assert evaluate.main([*argv, "--split", "validation"]) == 1
    assert "no recordings of split validation" in capsys.readouterr().err


def test_what_cannot_be_coded_is_counted_and_said(recordings: Path, tmp_path: Path, capsys):
    peer = f"broken={shlex.join([sys.executable, '-c', 'raise SystemExit(3)'])} {{in}} {{out}}"
    assert evaluate.main([str(recordings), "-o", str(tmp_path), "--peer", peer]) == 1
    assert all("exit code 3" in row["error"] for row in rows(tmp_path).values())
    assert "broken: exit code 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--encoder", "nothing"], "preset 'nothing', allowed bitexact"),
        (["--decoder", "nothing"], "decoder 'nothing', allowed standard"),
        (["--peer", "carta1"], "allowed NAME=COMMAND with {in} and {out}"),
    ],
)
def test_wrong_names_are_said_in_one_line(recordings: Path, tmp_path: Path, capsys, wrong: list[str], said: str):
    assert evaluate.main([str(recordings), "-o", str(tmp_path / "out"), *wrong]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
