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
READ_AEA = [name for name in COMMANDS if name != "encode"]
SENTINEL = b"already there"


@pytest.fixture
def place(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, wav) -> Path:
    """The current folder, with the recording good.wav in it."""
    monkeypatch.chdir(tmp_path)
    wav(name="good.wav")
    return tmp_path


@pytest.fixture
def refused(place: Path, contents, capsys: pytest.CaptureFixture[str]):
    """Run a command that must fail with one error message and change nothing; return the message."""

    def run(*command: str, code: int = 1) -> str:
        before = contents(place)
        capsys.readouterr()
        assert main(command) == code
        out, err = capsys.readouterr()
        assert contents(place) == before
        assert out == ""
        assert err.count("error: ") == 1
        assert len(err.splitlines()) == 1
        for inside in ("Traceback", "cffi", "Errno", ".part"):
            assert inside not in err
        return err.strip()

    return run


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


# What is no AEA file, for every command that reads one ---------------------------------------------

HEADERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda good: b"", "the file ends after 0 bytes, a header has 2048"),
    "cut in the header": (lambda good: good[:1000], "the file ends after 1000 bytes, a header has 2048"),
    "cut by one byte": (lambda good: good[:2047], "the file ends after 2047 bytes, a header has 2048"),
    "wrong magic": (
        lambda good: b"RIFF" + good[4:],
        "the file begins with 52 49 46 46, an AEA file with 00 08 00 00",
    ),
    "no channels": (lambda good: patched(good, 264, b"\0"), "channels = 0, allowed 1 and 2 (header byte 264)"),
    "seven channels": (lambda good: patched(good, 264, b"\7"), "channels = 7, allowed 1 and 2 (header byte 264)"),
}


@pytest.mark.parametrize("command", READ_AEA)
@pytest.mark.parametrize("case", HEADERS)
def test_unusable_headers_are_refused(command: str, case: str, aea, place: Path, refused):
    damage, message = HEADERS[case]
    (place / "bad.aea").write_bytes(damage(aea()))
    assert refused(*COMMANDS[command]("bad.aea")) == f"error: bad.aea: {message}"


# Damaged sound units -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "rest", "message"),
    [
        (39, 212 + 112, "frame 39, channel 1: the file ends after 112 of 212 bytes"),
        (39, 212, "frame 39, channel 1: the file ends after 0 of 212 bytes"),
        (12, 1, "frame 12, channel 0: the file ends after 1 of 212 bytes"),
        (0, 423, "frame 0, channel 1: the file ends after 211 of 212 bytes"),
    ],
)
def test_decode_refuses_a_file_cut_within_a_frame(frames: int, rest: int, message: str, aea, place: Path, refused):
    (place / "cut.aea").write_bytes(aea()[: 2048 + 424 * frames + rest])
    assert refused("decode", "cut.aea", "-o", "out.wav") == f"error: cut.aea: {message}"
    whole_frames = f"the file ends in frame {frames}, after {rest} of 424 bytes (2 sound units of 212 bytes)"
    assert refused("compare", "good.wav", "cut.aea") == f"error: cut.aea: {whole_frames}"


def test_what_decode_refuses_as_cut_the_other_commands_describe_and_repair(aea, place: Path, capsys):
    (place / "cut.aea").write_bytes(aea()[:-100])
    assert main(["info", "cut.aea"]) == 1
    table = " ".join(capsys.readouterr().out.split())
    assert table.endswith("damages 1 (frame 39, channel 1: the file ends after 112 of 212 bytes)")
    assert main(["repair", "cut.aea", "-o", "out.aea"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "cut.aea: 40 frames, sound units replaced: 1 (frame 39, channel 1: the file ends after 112 of 212 bytes)"
    ]
    assert main(["info", "out.aea"]) == 0
    assert main(["decode", "cut.aea", "-o", "out.wav", "--damage", "silence"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: cut.aea: damaged sound units: 1 (frame 39, channel 1: the file ends after 112 of 212 bytes)"
    ]
    assert soundfile.info(place / "out.wav").frames == 20_000


def test_a_file_without_sound_units_is_refused(aea, place: Path, refused, capsys):
    (place / "header.aea").write_bytes(aea()[:2048])
    (place / "empty.raw").write_bytes(b"")
    damage = "--damage", "silence"
    assert refused("decode", "header.aea", "-o", "out.wav", *damage) == ("error: header.aea: no sound units")
    assert refused("decode", "empty.raw", "--raw", "1", "-o", "out.wav", *damage) == "error: empty.raw: no sound units"
    assert refused("compare", "good.wav", "header.aea") == "error: header.aea: no sound units"
    assert main(["info", "header.aea"]) == 0
    assert re.search(r"frames +0\b", capsys.readouterr().out)


# Paths, for every command --------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_without_a_file_are_refused(command: str, place: Path, refused):
    for name, reason in {
        "missing.aea": os.strerror(errno.ENOENT),
        "nowhere/missing.aea": os.strerror(errno.ENOENT),
        "good.wav/y.aea": os.strerror(errno.ENOTDIR),
        "x" * 300 + ".aea": os.strerror(errno.ENAMETOOLONG),
    }.items():
        assert refused(*COMMANDS[command](name)) == f"error: {name}: {reason}"
        if command in ("decode", "encode"):  # no folder is made for what will never be
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


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_may_not_be_read_are_refused(command: str, place: Path, refused, monkeypatch):
    reason = os.strerror(errno.EACCES)

    def denied(file: Any, *args: Any, **kwargs: Any) -> Any:
        if str(file) == "secret.aea":
            raise PermissionError(errno.EACCES, reason, "secret.aea")
        return real(file, *args, **kwargs)

    (place / "secret.aea").write_bytes(b"never seen")
    real = open
    monkeypatch.setattr("builtins.open", denied)
    monkeypatch.setattr("io.open", denied)
    assert refused(*COMMANDS[command]("secret.aea")) == f"error: secret.aea: {reason}"


# Targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["encode", "decode", "repair"])
def test_existing_files_are_kept(command: str, aea, place: Path, refused):
    (place / "good.aea").write_bytes(aea())
    source, target = ("good.wav", "out.aea") if command == "encode" else ("good.aea", "out.wav")
    (place / target).write_bytes(SENTINEL)
    message = f"error: {source}: {target} exists; --force replaces it"
    assert refused(command, source, "-o", target) == message
    (place / "folder").mkdir()
    ending = ".wav" if command == "decode" else ".aea"
    (place / "folder" / f"good{ending}").write_bytes(SENTINEL)
    message = f"error: {source}: {Path('folder', f'good{ending}')} exists; --force replaces it"
    assert refused(command, source, "-o", "folder") == message


@pytest.mark.parametrize("command", ["encode", "decode", "repair"])
def test_targets_that_cannot_be_made_are_refused(command: str, aea, place: Path, refused, monkeypatch):
    (place / "good.aea").write_bytes(aea())
    source = "good.wav" if command == "encode" else "good.aea"
    below = refused(command, source, "-o", "good.wav/out.wav")
    named = "good.wav" if command == "encode" else "good.aea: good.wav"
    assert below == f"error: {named}: {os.strerror(errno.ENOTDIR)}"
    assert refused(command, source, "-o", "x" * 300 + ".wav").endswith(os.strerror(errno.ENAMETOOLONG))

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    monkeypatch.setattr("tempfile.mkstemp", denied)
    message = refused(command, source, "-o", "out.wav")
    assert message == f"error: {source}: {place}: {os.strerror(errno.EACCES)}"


# What is no audio, for encode and compare ----------------------------------------------------------


def audio(data: Any, kind: str = "WAV", rate: int = 44100, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, data, rate, subtype, format=kind)
    return file.getvalue()


def tone(samples: int = 9000, channels: int = 2) -> Any:
    return 0.2 * np.sin(0.05 * np.outer(np.arange(samples), np.ones(channels)))


def cut(kind: str, part: float) -> Callable[[], bytes]:
    def make() -> bytes:
        data = audio(tone(), kind)
        return data[: int(part * len(data))]

    return make


NO_AUDIO: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not read as audio: .+"),
    "text": (lambda: b"Dear diary,\n" * 500, "not read as audio: .+"),
    "random": (lambda: np.random.default_rng(0).bytes(10_000), "not read as audio: .+"),
    "no samples": (lambda: audio(tone(0)), "no samples, allowed 1 and more"),
    "three channels": (lambda: audio(tone(100, 3)), "3 channels, allowed 1 and 2"),
    "no sampling rate": (lambda: patched(audio(tone()), 24, bytes(4)), "not read as audio: .+"),
    "WAV cut in the header": (lambda: audio(tone())[:30], "not read as audio: .+"),
    "WAV cut in the first words": (lambda: audio(tone())[:10], "not read as audio: .+"),
    "WAV cut before the samples": (lambda: audio(tone())[:44], "no samples, allowed 1 and more"),
    "WAV cut": (cut("WAV", 0.6), r"the file ends after \d+ samples, \d+ bytes before the end that its header states"),
    "WAV cut by a byte": (
        lambda: audio(tone())[:-1],
        "the file ends after 8999 samples, 1 bytes before the end that its header states",
    ),
    "AIFF cut in the header": (lambda: audio(tone(), "AIFF")[:30], "not read as audio: .+"),
    "AIFF cut": (cut("AIFF", 0.6), r"the file ends after \d+ samples, \d+ bytes before the end that its header states"),
    "AU cut": (cut("AU", 0.6), r"the file ends after \d+ samples, \d+ bytes before the end that its header states"),
    "W64 cut": (cut("W64", 0.6), r"the file ends after \d+ samples, \d+ bytes before the end that its header states"),
    "FLAC cut in the header": (lambda: audio(tone(), "FLAC")[:30], "not read as audio: .+"),
    "FLAC cut": (cut("FLAC", 0.6), r"(the file ends after|reading stopped at) sample \d+ of 9000.*"),
    "FLAC cut by a byte": (
        lambda: audio(tone(), "FLAC")[:-1],
        r"(the file ends after|reading stopped at) sample \d+ of 9000.*",
    ),
}


@pytest.mark.parametrize("case", NO_AUDIO)
def test_what_is_no_whole_audio_file_is_refused(case: str, place: Path, refused, monkeypatch):
    make, message = NO_AUDIO[case]
    (place / "bad.wav").write_bytes(make())
    assert re.fullmatch(f"error: bad.wav: {message}", refused("encode", "bad.wav", "-o", "out.aea"))
    monkeypatch.setattr(sys, "stdin", Pipe(make()))
    assert re.fullmatch(f"error: -: the stream: {message}", refused("encode", "-", "-o", "out.aea"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -2 * LOUDEST])
@pytest.mark.parametrize(("rate", "at"), [(44100, 0), (44100, 66_000), (48000, 66_000), (8000, 20_000)])
def test_samples_that_are_no_numbers_are_refused_with_the_first_place(
    value: float, rate: int, at: int, place: Path, refused
):
    pcm = np.zeros((70_000, 2), np.float32)
    pcm[at, 1] = value
    pcm[at + 1 :: 1000] = np.nan
    (place / "bad.wav").write_bytes(audio(pcm, "WAV", rate, "FLOAT"))
    found = f"sample {at} of channel 1 is {np.float32(value)}, allowed finite numbers up to 1e+10 (full scale is 1)"
    assert refused("encode", "bad.wav", "-o", "out.aea") == f"error: bad.wav: {found}"


class Pipe:
    """Standard input with bytes behind it that cannot be read twice."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)
        self.buffer.seekable = lambda: False  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("command", "stream"), [("encode", "stdin"), ("decode", "stdin"), ("encode", "stdout"), ("decode", "stdout")]
)
def test_closed_standard_streams_are_refused(command: str, stream: str, aea, place: Path, capsys, monkeypatch):
    (place / "good.aea").write_bytes(aea())
    source = "-" if stream == "stdin" else {"encode": "good.wav", "decode": "good.aea"}[command]
    arguments = command, source, "-o", "-" if stream == "stdout" else "out.wav"
    with monkeypatch.context() as patch:
        patch.setattr(sys, stream, None)
        assert main(arguments) == 1
    name = {"stdin": "input", "stdout": "output"}[stream]
    assert capsys.readouterr().err == f"error: {source}: standard {name} is closed\n"
    assert not (place / "out.wav").exists()


# What looks bad and is not -------------------------------------------------------------------------


def wav_from_a_pipe(pcm: Any, riff: int, data: int) -> bytes:
    """Make a WAV file whose sizes are those that a program wrote which could not know them yet."""
    samples = (pcm * 32767).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 44100, 4 * 44100, 4, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVE" + form + struct.pack("<4sI", b"data", data) + samples


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF - 36),
        (0x7FFFFFFF, 0x7FFFFFFF - 36),
        (0x7FFFF024, 0x7FFFF000),
        (0x80000024, 0x80000000),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
def test_sizes_that_a_program_could_not_know_are_no_cut(riff: int, data: int, piped: bool, place: Path, monkeypatch):
    file = wav_from_a_pipe(tone(), riff, data)
    (place / "in.wav").write_bytes(file)
    monkeypatch.setattr(sys, "stdin", Pipe(file))
    assert main(["encode", "-" if piped else "in.wav", "-o", "out.aea"]) == 0
    assert read_info(place / "out.aea").samples == 9000


ODD = [
    (kind, subtype)
    for kind in ("WAV", "AIFF", "W64", "RF64", "CAF", "AU")
    for subtype in ("PCM_S8", "PCM_U8", "PCM_24")
    if soundfile.check_format(kind, subtype)
]


@pytest.mark.parametrize(("kind", "subtype"), ODD)
def test_odd_numbers_of_bytes_are_no_cut(kind: str, subtype: str, place: Path):
    (place / "in.wav").write_bytes(audio(tone(3001, 1), kind, 44100, subtype))
    assert main(["encode", "in.wav", "-o", "out.aea"]) == 0
    # libsndfile counts the byte that fills up an AIFF file of odd length as a sample.
    assert read_info(place / "out.aea").samples == soundfile.info("in.wav").frames in (3001, 3002)


def test_overload_is_one_warning_and_a_file_that_decodes(place: Path, capsys):
    loud = np.where(np.arange(9000) // 50 % 2, 4.0, -4.0)[:, None]
    loud[:1000] = 0
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
    assert np.isfinite(back).all()
    assert 1 < np.abs(back).max() < 8
    assert main(["decode", "out.aea", "-o", "cut.wav"]) == 0
    assert re.fullmatch(r"warning: out.aea: \d+ samples over full scale were clipped; .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("rate", [1, 50, 1_000_000])
def test_strange_sampling_rates_are_taken_in_little_memory(rate: int):
    samples = min(4000, 50 * rate)
    with AudioReader(io.BytesIO(audio(tone(samples), "WAV", rate))) as reader:
        sizes = [block.shape[1] for block in reader.blocks()]
    assert abs(sum(sizes) - samples * 44100 / rate) < 2
    assert max(sizes) < 2_500_000


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "AU", "W64", "CAF"])
def test_damaged_audio_files_are_read_or_refused(kind: str):
    rng = np.random.default_rng(1)
    good = audio(tone(3000), kind)
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


def test_a_named_pipe_is_read_once(place: Path, wav):
    os.mkfifo("pipe.wav")
    data = (place / "good.wav").read_bytes()
    writer = threading.Thread(target=lambda: Path("pipe.wav").write_bytes(data))
    writer.start()
    code = main(["encode", "pipe.wav", "-o", "out.aea"])
    writer.join(timeout=10)
    assert code == 0
    assert read_info("out.aea").samples == 20_000
