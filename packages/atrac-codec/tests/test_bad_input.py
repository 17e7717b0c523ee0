"""Bad input to the commands: exit code 1, a message that says what is wrong where, and no file made or changed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from atrac_bitstream import read_info
from atrac_codec import AudioError, AudioReader
from atrac_codec.audio import LOUDEST
from atrac_codec.cli import main

COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "decode": lambda name: ["decode", name, "-o", "out.wav"],
    "repair": lambda name: ["repair", name, "-o", "out.aea"],
    "info": lambda name: ["info", name],
    "compare": lambda name: ["compare", "good.wav", name],
    "encode": lambda name: ["encode", name, "-o", "out.aea"],
}
"""A command line of each command for a file of that name."""


@pytest.fixture
def place(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, wav) -> Path:
    """The current folder, with the recording good.wav in it."""
    monkeypatch.chdir(tmp_path)
    wav(name="good.wav")
    return tmp_path


@pytest.fixture
def refused(place: Path, contents, capsys: pytest.CaptureFixture[str]):
    """Run a command that must fail with one error message and change nothing; return the message."""

    def run(*command: str) -> str:
        before = contents(place)
        capsys.readouterr()
        assert main(command) == 1
        out, err = capsys.readouterr()
        assert contents(place) == before
        assert (out, err.count("error: "), err.count("\n")) == ("", 1, 1)
        assert not re.search(r"Traceback|cffi|Errno|\.part", err)
        return err.strip()

    return run


# AEA files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "encode"])
def test_what_is_no_aea_file_is_refused(command: str, aea, place: Path, refused):
    for data, message in {
        aea()[:2047]: "the file ends after 2047 bytes, a header has 2048",
        b"RIFF" + aea()[4:]: "the file begins with 52 49 46 46, an AEA file with 00 08 00 00",
    }.items():
        (place / "bad.aea").write_bytes(data)
        assert refused(*COMMANDS[command]("bad.aea")) == f"error: bad.aea: {message}"


def test_a_file_cut_within_a_frame_is_refused(aea, place: Path, refused):
    (place / "cut.aea").write_bytes(aea()[:-100])
    cut = "frame 39, channel 1: the file ends after 112 of 212 bytes"
    assert refused("decode", "cut.aea", "-o", "out.wav") == f"error: cut.aea: {cut}"
    cut = "the file ends in frame 39, after 324 of 424 bytes (2 sound units of 212 bytes)"
    assert refused("compare", "good.wav", "cut.aea") == f"error: cut.aea: {cut}"


def test_a_file_without_sound_units_is_refused(aea, place: Path, refused, capsys):
    (place / "header.aea").write_bytes(aea()[:2048])
    (place / "empty.raw").write_bytes(b"")
    damage = "--damage", "silence"
    assert refused("decode", "header.aea", "-o", "out.wav", *damage) == ("error: header.aea: no sound units")
    assert refused("decode", "empty.raw", "--raw", "1", "-o", "out.wav", *damage) == "error: empty.raw: no sound units"
    assert refused("compare", "good.wav", "header.aea") == "error: header.aea: no sound units"
    assert main(["info", "header.aea"]) == 0
    assert re.search(r"frames +0\b", capsys.readouterr().out)


# Paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_without_a_file_are_refused(command: str, place: Path, refused):
    for name, reason in {
        "missing.aea": os.strerror(errno.ENOENT),
        "nowhere/missing.aea": os.strerror(errno.ENOENT),
        "good.wav/y.aea": os.strerror(errno.ENOTDIR),
        "x" * 300 + ".aea": os.strerror(errno.ENAMETOOLONG),
    }.items():
        assert refused(*COMMANDS[command](name)) == f"error: {name}: {reason}"
        if command in ("decode", "encode"):  # no folder is made for a file that cannot be made
            assert refused(command, name, "-o", "new/out.wav") == f"error: {name}: {reason}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_instead_of_a_file_is_refused(command: str, place: Path, refused):
    (place / "x.aea").mkdir()
    (place / "x.aea" / "notes.txt").write_text("no sound")
    message = refused(*COMMANDS[command]("x.aea"))
    if command == "compare":
        assert message == f"error: x.aea: {os.strerror(errno.EISDIR)}"
    else:
        looked_for = r"\.aif \.aifc .* \.wav .*" if command == "encode" else r"\.aea"
        assert re.fullmatch(rf"error: x\.aea: no files to work on, looked for {looked_for}", message)


@pytest.mark.parametrize("command", ["encode", "decode", "repair"])
def test_targets_that_exist_or_cannot_be_made_are_refused(command: str, aea, place: Path, refused, monkeypatch):
    (place / "good.aea").write_bytes(aea())
    source, ending = ("good.wav", ".aea") if command == "encode" else ("good.aea", ".wav")
    made = f"good{'.wav' if command == 'decode' else '.aea'}"
    (place / "folder").mkdir()
    for target, given in ((f"out{ending}", f"out{ending}"), (str(Path("folder", made)), "folder")):
        (place / target).write_bytes(b"already there")
        assert refused(command, source, "-o", given) == f"error: {source}: {target} exists; --force replaces it"
    named = "good.wav" if command == "encode" else "good.aea: good.wav"
    assert refused(command, source, "-o", "good.wav/out.wav") == f"error: {named}: {os.strerror(errno.ENOTDIR)}"
    assert refused(command, source, "-o", "x" * 300 + ".wav").endswith(os.strerror(errno.ENAMETOOLONG))

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    monkeypatch.setattr("tempfile.mkstemp", denied)
    assert refused(command, source, "-o", "new.wav") == f"error: {source}: {place}: {os.strerror(errno.EACCES)}"


@pytest.mark.parametrize("command", ["encode", "decode"])
@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_closed_standard_streams_are_refused(command: str, stream: str, aea, place: Path, capsys, monkeypatch):
    (place / "good.aea").write_bytes(aea())
    source = "-" if stream == "stdin" else {"encode": "good.wav", "decode": "good.aea"}[command]
    with monkeypatch.context() as patch:
        patch.setattr(sys, stream, None)
        assert main([command, source, "-o", "-" if stream == "stdout" else "out.wav"]) == 1
    assert capsys.readouterr().err == f"error: {source}: standard {stream.removeprefix('std')}put is closed\n"
    assert not (place / "out.wav").exists()


# Audio files ---------------------------------------------------------------------------------------

UNREADABLE = "not read as audio: .+"
SHORT = r"the file ends after \d+ samples, \d+ bytes before the end that its header states"
BROKEN_OFF = r"(the file ends after|reading stopped at) sample \d+ of 9000.*"
NO_AUDIO: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "empty": (lambda audio: b"", UNREADABLE),
    "text": (lambda audio: b"Dear diary,\n" * 500, UNREADABLE),
    "no samples": (lambda audio: audio(np.zeros((2, 0))), "no samples, allowed 1 and more"),
    "three channels": (lambda audio: audio(np.zeros((3, 100))), "3 channels, allowed 1 and 2"),
    "no sampling rate": (lambda audio: audio()[:24] + bytes(4) + audio()[28:], UNREADABLE),
    "WAV cut in the header": (lambda audio: audio()[:30], UNREADABLE),
    "WAV cut before the samples": (lambda audio: audio()[:44], "no samples, allowed 1 and more"),
    "WAV cut": (lambda audio: audio()[:-1], "the file ends after 8999 samples, 1 bytes before the end .*"),
    "AIFF cut in the header": (lambda audio: audio(kind="AIFF")[:30], UNREADABLE),
    "AIFF cut": (lambda audio: audio(kind="AIFF")[:-9000], SHORT),
    "AU cut": (lambda audio: audio(kind="AU")[:-9000], SHORT),
    "W64 cut": (lambda audio: audio(kind="W64")[:-9000], SHORT),
    "FLAC cut in the header": (lambda audio: audio(kind="FLAC")[:30], UNREADABLE),
    "FLAC cut": (lambda audio: audio(kind="FLAC")[:-9000], BROKEN_OFF),
    "FLAC cut by a byte": (lambda audio: audio(kind="FLAC")[:-1], BROKEN_OFF),
}


@pytest.mark.parametrize("case", NO_AUDIO)
def test_what_is_no_whole_audio_file_is_refused(case: str, audio, place: Path, refused, stdin):
    make, message = NO_AUDIO[case]
    (place / "bad.wav").write_bytes(make(audio))
    assert re.fullmatch(f"error: bad.wav: {message}", refused("encode", "bad.wav", "-o", "out.aea"))
    stdin(make(audio))
    assert re.fullmatch(f"error: -: the stream: {message}", refused("encode", "-", "-o", "out.aea"))


@pytest.mark.parametrize("value", [np.nan, -np.inf, -2 * LOUDEST])
@pytest.mark.parametrize(("rate", "at"), [(44100, 0), (44100, 66_000), (8000, 20_000)])
def test_samples_that_are_no_numbers_are_refused_with_the_first_place(
    value: float, rate: int, at: int, audio, place: Path, refused
):
    pcm = np.zeros((2, 70_000), np.float32)
    pcm[1, at] = value
    pcm[:, at + 1 :: 1000] = np.nan
    (place / "bad.wav").write_bytes(audio(pcm, "WAV", rate, "FLOAT"))
    found = f"sample {at} of channel 1 is {np.float32(value)}, allowed finite numbers up to 1e+10 (full scale is 1)"
    assert refused("encode", "bad.wav", "-o", "out.aea") == f"error: bad.wav: {found}"


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "AU", "W64", "CAF"])
def test_damaged_audio_files_are_read_or_refused(kind: str, audio):
    rng = np.random.default_rng(1)
    good = audio(3000, kind)
    refusals = 0
    for _ in range(150):
        data = bytearray(good)
        for at in rng.integers(0, rng.choice([64, len(data)]), rng.integers(1, 6)):
            what = rng.integers(4)
            if what == 0:
                data[at] ^= 1 << rng.integers(8)
            elif what == 1:
                data[at : at + 4] = bytes([rng.choice([0, 0x7F, 0x80, 0xFF])]) * 4
            elif what == 2:
                del data[at : at + rng.integers(1, 9)]
            else:
                data[at:at] = rng.bytes(rng.integers(1, 9))
        with contextlib.suppress(AudioError), AudioReader(io.BytesIO(data)) as reader:
            assert isinstance(reader.title, str)
            refusals += 1
            for block in reader.blocks():
                assert np.isfinite(block).all()
            refusals -= 1
    assert refusals < 150


# Unusual audio files that are accepted -------------------------------------------------------------


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFFFFF, 0x7FFFFFFF - 36),
        (0x7FFFF024, 0x7FFFF000),
        (0x80000024, 0x80000000),
    ],
)
def test_sizes_that_a_program_could_not_know_are_no_cut(riff: int, data: int, audio, place: Path, stdin):
    file = bytearray(audio())
    file[4:8], file[40:44] = struct.pack("<I", riff), struct.pack("<I", data)
    (place / "in.wav").write_bytes(file)
    stdin(file)
    for source in ("in.wav", "-"):
        assert main(["encode", source, "-o", "out.aea", "--force"]) == 0
        assert read_info(place / "out.aea").samples == 9000


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "W64", "RF64", "CAF", "AU"])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_U8", "PCM_24"])
def test_odd_numbers_of_bytes_are_no_cut(kind: str, subtype: str, audio):
    if soundfile.check_format(kind, subtype):
        with AudioReader(io.BytesIO(audio(np.zeros((1, 3001)), kind, subtype=subtype))) as reader:
            # libsndfile counts the byte that fills up an AIFF file of odd length as a sample.
            assert sum(block.shape[1] for block in reader.blocks()) in (3001, 3002 if kind == "AIFF" else 3001)


def test_overload_is_one_warning_and_a_file_that_decodes(audio, place: Path, capsys):
    loud = np.where(np.arange(9000) // 50 % 2, 4.0, -4.0)[None]
    loud[:, :1000] = 0
    (place / "loud.wav").write_bytes(audio(loud, "WAV", 44100, "FLOAT"))
    capsys.readouterr()
    assert main(["encode", "loud.wav", "-o", "out.aea"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: loud.wav: 8000 samples over full scale, the largest 4.000; "
        "those beyond the largest scale factor are clipped"
    ]
    assert main(["decode", "out.aea", "-o", "back.wav", "--samples", "float"]) == 0
    assert capsys.readouterr().err == ""
    back, _ = soundfile.read(place / "back.wav")
    assert len(back) == 9000
    assert 1 < np.abs(back).max() < 8
    assert main(["decode", "out.aea", "-o", "cut.wav"]) == 0
    assert re.fullmatch(r"warning: out.aea: \d+ samples over full scale were clipped; .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("rate", [1, 50, 1_000_000])
def test_strange_sampling_rates_are_taken_in_little_memory(rate: int, audio):
    samples = min(4000, 50 * rate)
    with AudioReader(io.BytesIO(audio(samples, "WAV", rate))) as reader:
        sizes = [block.shape[1] for block in reader.blocks()]
    assert abs(sum(sizes) - samples * 44100 / rate) < 2
    assert max(sizes) < 2_500_000


def test_a_named_pipe_is_read_once(place: Path):
    os.mkfifo("pipe.wav")
    data = (place / "good.wav").read_bytes()
    writer = threading.Thread(target=lambda: Path("pipe.wav").write_bytes(data))
    writer.start()
    code = main(["encode", "pipe.wav", "-o", "out.aea"])
    writer.join(timeout=10)
    assert code == 0
    assert read_info("out.aea").samples == 20_000
