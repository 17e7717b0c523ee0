"""Disks that are full or broken: an `OSError` says so, and no file is made or changed."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from atrac_bitstream import AtracError
from atrac_codec import build_decoder, build_encoder, decode_file, encode_file, read_audio
from atrac_codec.cli import main

ROOMS = [0, 2047, 10_000, -1]
"""Bytes that a full disk takes; -1 is one less than the whole file."""


@pytest.fixture
def place(tmp_path: Path, temporary: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


class Breaks(io.BytesIO):
    """A file object that works for so many operations."""

    def __init__(self, data: bytes, left: int, seekable: bool = True) -> None:
        super().__init__(data)
        self.left, self._seekable = left, seekable

    def _count(self) -> None:
        if not self.left:
            raise OSError(errno.EIO, "the disk is broken")
        self.left -= 1

    def seekable(self) -> bool:
        self._count()
        return self._seekable

    def read(self, size: int | None = -1) -> bytes:
        self._count()
        return super().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._count()
        return super().seek(offset, whence)

    def tell(self) -> int:
        self._count()
        return super().tell()


def audio(pcm: Any, kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm.T, 44100, format=kind)
    return file.getvalue()


# Full disks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(("name", "existing"), [("out.wav", True), ("out.flac", False), ("out.aea", True)])
def test_full_disks_are_an_os_error_and_leave_what_was_there(
    room: int, name: str, existing: bool, aea, wav, place: Path, contents, full_disk, small_chunks, capfd
):
    source = io.BytesIO(aea(9000))
    recording = wav(9000)

    def run(target: Path) -> None:
        source.seek(0)
        if name == "out.aea":
            encode_file(recording, target, build_encoder())
        else:
            decode_file(source, target, build_decoder())

    run(place / name)
    size = (place / name).stat().st_size
    (place / name).unlink()
    if existing:
        (place / name).write_bytes(b"before")
    before = contents(place)
    full_disk(room % size)
    with pytest.raises(OSError, match="no space left"):
        run(place / name)
    assert contents(place) == before
    assert capfd.readouterr().err == ""
    full_disk(size)
    run(place / name)
    assert (place / name).stat().st_size == size


def test_a_full_disk_for_the_copy_of_a_pipe_is_an_os_error(aea, sound, full_disk, monkeypatch, place: Path):
    def no_room(*_: Any, **__: Any) -> Any:
        return (place / "copy").open("w+b")

    full_disk(5000)
    monkeypatch.setattr("tempfile.TemporaryFile", no_room)
    source = Breaks(audio(sound(9000), "WAV"), 1 << 30, seekable=False)
    with pytest.raises(OSError, match="no space left"):
        read_audio(source)


@pytest.mark.parametrize("command", [["info", "x.aea"], ["info", "x.aea", "--json"], ["compare", "in.wav", "x.aea"]])
@pytest.mark.parametrize("when", ["write", "flush"])
def test_results_that_cannot_be_printed_are_an_error(
    command: list[str], when: str, aea, wav, tmp_path, monkeypatch, capsys
):
    class Unwritable(io.StringIO):
        def fail(self, *_: Any) -> Any:
            raise OSError(errno.ENOSPC, "no space left")

        def fileno(self) -> int:
            raise OSError("no file")

    setattr(Unwritable, when, Unwritable.fail)
    (tmp_path / "x.aea").write_bytes(aea())
    wav()
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Unwritable())
        assert main(command) == 1
    assert capsys.readouterr().err == "error: standard output: no space left\n"


LIMITED = """
import resource, sys
from atrac_codec.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
codes = [main(["encode", "in.wav", "-o", "out.aea"])]
codes += [main(["decode", "x.aea", "-o", target, "--force"]) for target in sys.argv[1:]]
print(codes)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="limits are those of POSIX")
def test_files_over_the_limit_of_the_system_are_an_error(aea, wav, place: Path, contents):
    wav(60_000, name="place/in.wav")
    (place / "x.aea").write_bytes(aea(60_000))
    (place / "out.flac").write_bytes(b"before")
    before = contents(place)
    targets = ["out.wav", "out.aiff", "out.flac", "out.w64"]
    command = [sys.executable, "-W", "error", "-c", LIMITED, *targets]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    reason = os.strerror(errno.EFBIG)
    assert run.stderr.splitlines() == [
        f"error: in.wav -> out.aea: {reason}",
        *(f"error: x.aea -> {target}: {reason}" for target in targets),
    ]
    assert run.stdout == f"{[1] * 5}\n"
    assert run.returncode == 0
    assert contents(place) == before


# Broken disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "OGG"])
@pytest.mark.parametrize("seekable", [True, False])
def test_audio_that_breaks_off_anywhere_is_an_os_error(kind: str, seekable: bool, sound, temporary: Path, capfd):
    data = audio(sound(5000), kind)
    whole = Breaks(data, 1 << 30, seekable)
    pcm = read_audio(whole)
    operations = (1 << 30) - whole.left
    assert operations > (2 if seekable else 1)
    for left in range(operations):
        with pytest.raises(OSError, match="the disk is broken"):
            read_audio(Breaks(data, left, seekable))
    assert np.array_equal(read_audio(Breaks(data, operations, seekable)), pcm)
    assert list(temporary.iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("kind", "existing"), [("WAV", True), ("FLAC", False), ("AEA", True)])
def test_files_are_not_made_from_what_breaks_off(
    kind: str, existing: bool, sound, aea, place: Path, contents, small_chunks, capfd
):
    target = place / ("out.wav" if kind == "AEA" else "out.aea")
    data = aea(5000) if kind == "AEA" else audio(sound(5000), kind)

    def run(source: Breaks) -> None:
        if kind == "AEA":
            decode_file(source, target, build_decoder())
        else:
            encode_file(source, target, build_encoder())

    whole = Breaks(data, 1 << 30)
    run(whole)
    operations = (1 << 30) - whole.left
    if existing:
        target.write_bytes(b"before")
    else:
        target.unlink()
    before = contents(place)
    for left in range(operations):
        with pytest.raises((OSError, AtracError)):
            run(Breaks(data, left))
        assert contents(place) == before
    assert capfd.readouterr().err == ""
    run(Breaks(data, operations))
    assert contents(place) != before


def test_what_is_raised_while_libsndfile_reads_or_writes_comes_out(sound, capfd):
    class Strange(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        read_audio(Strange(audio(sound(5000), "WAV")))
    assert capfd.readouterr().err == ""
