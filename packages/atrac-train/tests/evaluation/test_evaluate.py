"""The evaluation of encoders and decoders on recordings: same files for all, right numbers, clear errors."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import soundfile

from atrac_bitstream.tables import BFU_SIZES
from atrac_codec import build_encoder, encode_file
from atrac_data import render
from atrac_train.evaluation import evaluate, scores
from atrac_train.evaluation.kinds import ALL, SPEECH, UNNAMED
from atrac_train.evaluation.results import SCHEMA
from atrac_train.evaluation.scores import SCORES


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name, seconds in (("music", 0.6), ("attacks", 0.5), ("noise", 0.1)):
        soundfile.write(folder / f"{name}.wav", render(name, seconds=seconds, seed=5, channels=2).T, 44100)
    splits = {"music.wav": "test", "attacks.wav": "test", "noise.wav": "train"}
    (folder / "split.json").write_text(json.dumps(splits))
    return folder


def judge(folder: Path, name: str, code: str) -> str:
    """Return a judge that is a Python program."""
    program = folder / f"{name}.py"
    program.write_text(code)
    return f"{name}={shlex.join([sys.executable, str(program)])} {{ref}} {{dec}}"


def numbers(folder: Path) -> dict[str, Any]:
    """Read evaluation.json."""
    content: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    assert content["schema"] == SCHEMA
    return content


def rows(folder: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["recording"], row["encoder"], row["decoder"]): row for row in numbers(folder)["rows"]}


def summaries(folder: Path, score: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the summaries of a score by encoder and kind of content."""
    return {(one["encoder"], one["kind"]): one for one in numbers(folder)["summary"] if one["score"] == score}


def kinds(folder: Path) -> dict[str, str]:
    return {item["path"]: item["kind"] for item in numbers(folder)["recordings"]}


def test_presets_and_decoders_are_measured_on_the_same_files(recordings: Path, tmp_path: Path, capsys):
    argv = ["--encoder", "bitexact", "--encoder", "rd@fast", "--decoder", "ffmpeg", "--decoder", "standard"]
    assert evaluate.main([str(recordings), "-o", str(tmp_path / "out"), *argv]) == 0
    evaluation, found = numbers(tmp_path / "out"), rows(tmp_path / "out")
    assert {name for name, _, _ in found} == {"music.wav", "attacks.wav"}
    assert len(found) == 2 * 2 * 2
    seconds = {item["path"]: item["seconds"] for item in evaluation["recordings"]}
    for (recording, encoder, _), row in found.items():
        bits = row["bits"]
        assert row["error"] is None
        assert bits["over_budget"] == 0
        assert bits["units"] == 2 * 8 * -(-(round(seconds[recording] * 44100) + 266) // 4096)
        assert bits["used"] == pytest.approx(np.dot(bits["word_length"], BFU_SIZES), rel=1e-9)
        assert bits["used"] <= bits["budget"]
        same = found[recording, encoder, "ffmpeg"]
        assert row["scores"] == {name: pytest.approx(same["scores"][name], abs=2e-3) for name in SCORES}
    music = [found["music.wav", name, "ffmpeg"]["scores"] for name in ("bitexact", "rd@fast")]
    assert music[0]["SNR (dB)"] > 20
    assert music[1]["NMR (dB)"] < music[0]["NMR (dB)"]
    noise = summaries(tmp_path / "out", "NMR (dB)")
    assert sorted(noise["rd@fast", ALL]["better"]) == ["attacks.wav", "music.wav"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "NMR (dB)" in printed
    assert "2 recordings" in printed
    assert "2 better" in printed


def test_a_peer_gets_the_same_samples_as_a_preset(recordings: Path, tmp_path: Path):
    encode_file(recordings / "noise.wav", tmp_path / "x.aea", build_encoder("bitexact"))
    program = tmp_path / "peer.py"
    program.write_text(
        "import shutil, sys\nshutil.copy(sys.argv[1], sys.argv[3] + '/in.wav')\n"
        "shutil.copy(sys.argv[3] + '/x.aea', sys.argv[2])\n"
    )
    peer = f"peer={shlex.join([sys.executable, str(program)])} {{in}} {{out}} {shlex.quote(str(tmp_path))}"
    argv = [str(recordings), "-o", str(tmp_path / "out"), "--split", "train", "--encoder", "bitexact", "--peer", peer]
    assert evaluate.main(argv) == 0
    np.testing.assert_array_equal(soundfile.read(tmp_path / "in.wav")[0], soundfile.read(recordings / "noise.wav")[0])
    preset, outside = rows(tmp_path / "out").values()
    assert outside == preset | {"encoder": "peer"}


def test_length_and_split_choose_recordings(recordings: Path, tmp_path: Path, capsys):
    argv = [str(recordings), "-o", str(tmp_path / "out"), "--encoder", "reference"]
    assert evaluate.main([*argv, "--split", "all", "--shortest", "0.3", "--longest", "0.4"]) == 0
    found = numbers(tmp_path / "out")["recordings"]
    assert {(item["path"], item["seconds"]) for item in found} == {("music.wav", 0.4), ("attacks.wav", 0.4)}
    assert set(kinds(tmp_path / "out").values()) == {UNNAMED}
    for option, message in (
        (("--split", "validation"), "no recordings of split validation"),
        (("--shortest", "9"), "no recordings of split test that are long enough"),
    ):
        assert evaluate.main([*argv, *option]) == 1
        assert message in capsys.readouterr().err


def test_a_recording_that_cannot_be_coded_is_reported(recordings: Path, tmp_path: Path, capsys):
    peer = f"broken={shlex.join([sys.executable, '-c', 'raise SystemExit(3)'])} {{in}} {{out}}"
    assert evaluate.main([str(recordings), "-o", str(tmp_path), "--peer", peer, "--report"]) == 1
    assert all("exit code 3" in row["error"] for row in rows(tmp_path).values())
    assert "broken: exit code 3" in capsys.readouterr().err
    assert "broken: exit code 3" in (tmp_path / "report.html").read_text()


def test_judges_compare_stereo_files_without_delay_and_their_failures_are_counted(recordings: Path, tmp_path, capsys):
    mono = render("music", seconds=0.5, seed=6, channels=1)
    soundfile.write(recordings / "music.wav", mono.T, 44100)
    snr = judge(
        tmp_path,
        "snr",
        "import sys, numpy as np, soundfile\n"
        "(ref, rate), (dec, _) = (soundfile.read(name) for name in sys.argv[1:])\n"
        "assert ref.shape == dec.shape and ref.shape[1] == 2 and rate == 44100\n"
        "assert all(soundfile.info(name).subtype == 'PCM_24' for name in sys.argv[1:])\n"
        "print('reading:', sys.argv[1])\n"
        "print('Ratio:', 10 * np.log10((ref ** 2).mean(0) / ((dec - ref) ** 2).mean(0)).mean())\n",
    )
    deaf = judge(tmp_path, "deaf", "print('Grade: -nan'); print('Index: 3')")
    lame = judge(tmp_path, "lame", "import sys; print('Grade: 1'); sys.exit('no ears')")
    mute = judge(tmp_path, "mute", "print('nothing to say')")
    argv = ["--encoder", "bitexact", *(part for text in (snr, deaf, lame, mute) for part in ("--judge", text))]
    assert evaluate.main([str(recordings), "-o", str(tmp_path / "out"), *argv]) == 0
    found = rows(tmp_path / "out")
    assert len(found) == 2
    for row in found.values():
        assert row["scores"]["snr"] == pytest.approx(row["scores"]["SNR (dB)"], abs=1e-2)
        reasons = ("deaf: nan for a score", "lame: exit code 1, no ears", "mute: no number")
        assert row["missing"] == {reason[:4]: reason for reason in reasons}
        assert all(row["scores"][name] is None for name in row["missing"])
    assert "mute: bitexact has none in 2 recordings (mute: no number)" in capsys.readouterr().err
    assert summaries(tmp_path / "out", "mute") == {}


def test_speech_that_a_file_names_gets_the_measures_of_speech(recordings: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    (recordings / "kinds.json").write_text(json.dumps({"mus*": SPEECH, "*": "drums"}))
    argv = [str(recordings), "-o", str(tmp_path / "out"), "--encoder", "bitexact"]
    assert evaluate.main(argv) == 0
    assert "PESQ: bitexact has none in 1 recording (the package pesq is missing" in capsys.readouterr().err
    assert kinds(tmp_path / "out") == {"music.wav": SPEECH, "attacks.wav": "drums"}
    measured = {recording: row["scores"] for (recording, _, _), row in rows(tmp_path / "out").items()}
    assert 0.9 < measured["music.wav"]["STOI"] <= 1
    assert "STOI" not in measured["attacks.wav"]
    assert measured["music.wav"]["PESQ"] is None
    assert not summaries(tmp_path / "out", "PESQ")
    found = summaries(tmp_path / "out", "SNR (dB)")
    assert [kind for _, kind in found] == [ALL, "drums", SPEECH]
    assert found["bitexact", SPEECH]["recordings"] == 1

    other = tmp_path / "other.json"
    other.write_text(json.dumps({"attacks.wav": "bells"}))
    assert evaluate.main([*argv, "--kinds", str(other)]) == 0
    assert kinds(tmp_path / "out") == {"music.wav": UNNAMED, "attacks.wav": "bells"}
    assert [kind for _, kind in summaries(tmp_path / "out", "SNR (dB)")] == [ALL, "bells"]


def test_pesq_gets_speech_at_16_khz(monkeypatch):
    def pesq(rate, reference, decoded, mode):
        assert (rate, len(reference), len(decoded), mode) == (16000, 8000, 8000, "wb")
        return 3.5

    fake = types.ModuleType("pesq")
    monkeypatch.setattr(fake, "pesq", pesq, raising=False)
    monkeypatch.setattr(fake, "NoUtterancesError", ArithmeticError, raising=False)
    monkeypatch.setitem(sys.modules, "pesq", fake)
    sound = render("music", seconds=0.5, seed=5, channels=2)
    assert scores.measure(sound, sound, speech=True)[0]["PESQ"] == pytest.approx(3.5)
    found, missing = scores.measure(0 * sound, sound, speech=True)
    assert found["PESQ"] is None
    assert missing["PESQ"] == "too little speech"


def test_report_has_picture_and_sounds_of_each_recording(recordings: Path, tmp_path: Path):
    argv = ["--encoder", "bitexact", "--encoder", "reference", "--report", "--report-longest", "0.3"]
    assert evaluate.main([str(recordings), "-o", str(tmp_path / "out"), *argv]) == 0
    made = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert made == {"evaluation.json", "report.html", "bits.png", "music.wav.png", "attacks.wav.png"}
    for name in made:
        if name.endswith(".png"):
            picture = matplotlib.image.imread(tmp_path / "out/pictures" / name)
            assert len(np.unique(picture[::9, ::9].reshape(-1, picture.shape[2]), axis=0)) > 20
    sounds = re.findall(r'data-recording="(.*?)">(.*?)</script>', (tmp_path / "out/report.html").read_text())
    assert {name for name, _ in sounds} == {"music.wav", "attacks.wav"}
    for name, text in sounds:
        files = {version: io.BytesIO(base64.b64decode(flac)) for version, flac in json.loads(text)}
        assert list(files) == ["original", "bitexact", "reference"]
        original, *coded = (soundfile.read(file)[0] for file in files.values())
        np.testing.assert_array_equal(original, soundfile.read(recordings / name, frames=13230)[0])
        assert all(len(one) == 13230 and 0 < np.abs(one - original).mean() < 0.01 for one in coded)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--encoder", "nothing"], "preset 'nothing', allowed bitexact"),
        (["--decoder", "nothing"], "decoder 'nothing', allowed standard"),
        (["--peer", "carta1"], "allowed NAME=COMMAND with {in} and {out}"),
        (["--peer", "x=no-such-program {in} {out}"], "--peer x: no program 'no-such-program'"),
        (["--judge", "x=peaq {ref}"], "--judge 'x=peaq {ref}': allowed NAME=COMMAND with {ref} and {dec}"),
        (["--judge", "x=no-such-program {ref} {dec}"], "--judge x: no program 'no-such-program'"),
        (["--judge", "x='peaq {ref} {dec}"], "No closing quotation"),
        (["--judge", f"STOI={sys.executable} {{ref}} {{dec}}"], "'STOI' comes twice or is taken"),
        (["--encoder", "bitexact", "--encoder", "bitexact"], "'bitexact' comes twice"),
        (["--kinds", "no-such-file.json"], "no-such-file.json"),
        (["--longest", "-1"], "--longest -1.0, allowed 0 s or more"),
        (["--device", "abacus"], "--device abacus: "),
    ],
)
def test_an_error_is_one_line(recordings: Path, tmp_path: Path, capsys, wrong: list[str], message: str):
    assert evaluate.main([str(recordings), "-o", str(tmp_path / "out"), *wrong]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_scores_are_measured_without_matplotlib():
    code = "import atrac_train.evaluation.evaluate, sys; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
