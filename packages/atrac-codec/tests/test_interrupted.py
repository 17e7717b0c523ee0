"""Commands that are stopped while they run: nothing is left, or nothing but a hidden file if the stop is a hard one."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from atrac_bitstream import AeaHeader
from atrac_codec import build_decoder, decode_file, read_audio
from atrac_codec.cli import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

HOURS = 3
"""So much sound takes minutes to code; a test stops it after a moment."""
STOPPED = "stopped; nothing is left of the file that was being written\n"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with the long recordings in.wav and in.aea, which take no room as all of them is zeros."""
    samples = HOURS * 3600 * 44100
    with (tmp_path / "in.wav").open("wb") as file:
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 44100, 2 * 44100, 2, 16)
        file.write(b"RIFF" + struct.pack("<I", 36 + 2 * samples) + b"WAVE" + form)
        file.write(struct.pack("<4sI", b"data", 2 * samples))
        file.truncate(44 + 2 * samples)
    with (tmp_path / "in.aea").open("wb") as file:
        file.write(AeaHeader.make(channels=1).data)
        file.truncate(2048 + samples // 512 * 212)
    return tmp_path


@pytest.fixture
def running(inputs: Path) -> Iterator[Any]:
    """Start a command, and wait until it has begun to write its output."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "atrac_codec.cli", *arguments],
            cwd=inputs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A test run in the background may pass on that SIGINT is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        end = time.monotonic() + 60
        while not any(part.stat().st_size > 4096 for part in inputs.glob(".*.part")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("encode in.wav -o out.aea", signal.SIGTERM, 143),
        ("decode in.aea -o out.flac", signal.SIGINT, 130),
        ("encode in.wav -o out.aea", signal.SIGKILL, -9),
        ("decode in.aea -o out.flac", signal.SIGKILL, -9),
    ],
)
def test_a_stop_leaves_the_old_file_and_after_a_hard_one_a_hidden_one(
    command: str, number: int, code: int, inputs: Path, running
):
    target = inputs / command.split()[-1]
    target.write_bytes(b"before")
    process = running(*command.split(), "--force")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    hard = number == signal.SIGKILL
    assert (process.returncode, out, err) == (code, "", "" if hard else STOPPED)
    assert target.read_bytes() == b"before"
    others = {p.name for p in inputs.iterdir()} - {"in.wav", "in.aea", target.name}
    assert len(others) == hard
    assert all(name.startswith(".") and name.endswith(".part") for name in others)


class Interrupts:
    """Sends a signal at the call of a function that libsndfile calls back, where an exception would be lost."""

    def __init__(self, function: str, number: int, after: int) -> None:
        self._function, self._number, self._left = function, number, after

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == self._function:
            self._left -= 1
            if not self._left:
                signal.raise_signal(self._number)

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.setprofile(self)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, self._before)
        assert self._left <= 0, "libsndfile called nothing back"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("function", ["vio_read", "vio_tell", "vio_write", "vio_seek"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_stop_within_libsndfile_is_not_lost(
    number: int, code: int, function: str, after: int, audio, aea, tmp_path: Path, capfd, small_chunks
):
    if function in ("vio_read", "vio_tell"):
        command, source, target, data = "encode", "in.wav", "out.aea", audio()
    else:
        command, source, target, data = "decode", "in.aea", "out.flac", aea(9000)
    (tmp_path / source).write_bytes(data)
    handler = signal.getsignal(signal.SIGTERM)
    with Interrupts(function, number, after):
        assert main([command, str(tmp_path / source), "-o", str(tmp_path / target)]) == code
    assert signal.getsignal(signal.SIGTERM) is handler
    assert capfd.readouterr().err == STOPPED
    assert [p.name for p in tmp_path.iterdir()] == [source]


def test_handlers_are_as_before_when_a_file_is_done(wav, aea, tmp_path: Path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    read_audio(wav())
    decode_file(io.BytesIO(aea()), tmp_path / "x.wav", build_decoder())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
