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

from atrac_bitstream import AtracError
from atrac_codec import build_decoder, build_encoder, decode_file, encode_file, read_audio
from atrac_codec.cli import main


@pytest.fixture
def place(tmp_path: Path, temporary: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


class Breaks(io.BytesIO):
    """A file object that works for so many operations."""

    def __init__(self, data: bytes, left: int = 1 << 30, seekable: bool = True) -> None:
        super().__init__(data)
        self._left, self._seekable = left, seekable
        self.operations = 0

    def _count(self) -> None:
        if self.operations == self._left:
            raise OSError(errno.EIO, "the disk is broken")
        self.operations += 1

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


# Full disks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.aea"])
def test_full_disks_are_an_os_error_and_leave_what_was_there(
    name: str, aea, audio, place: Path, contents, full_disk, small_chunks, capfd
):
    def run() -> None:
        if name == "out.aea":
            encode_file(io.BytesIO(audio()), place / name, build_encoder())
        else:
            decode_file(io.BytesIO(aea(9000)), place / name, build_decoder())

    run()
    size = (place / name).stat().st_size
    (place / name).write_bytes(b"before")
    before = contents(place)
    for room in (0, 2047, 10_000, size - 1):
        full_disk(room)
        with pytest.raises(OSError, match="no space left"):
            run()
        assert contents(place) == before
    assert capfd.readouterr().err == ""
    full_disk(size)
    run()
    assert (place / name).stat().st_size == size


def test_a_full_disk_for_the_copy_of_a_pipe_is_an_os_error(audio, full_disk, monkeypatch, place: Path):
    full_disk(5000)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: (place / "copy").open("w+b"))
    with pytest.raises(OSError, match="no space left"):
        read_audio(Breaks(audio(), seekable=False))


@pytest.mark.parametrize("command", [["info", "x.aea"], ["compare", "in.wav", "x.aea", "--json"]])
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
    targets = ["out.wav", "out.flac"]
    command = [sys.executable, "-W", "error", "-c", LIMITED, *targets]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    reason = os.strerror(errno.EFBIG)
    assert run.stderr.splitlines() == [
        f"error: in.wav -> out.aea: {reason}",
        *(f"error: x.aea -> {target}: {reason}" for target in targets),
    ]
    assert run.stdout == "[1, 1, 1]\n"
    assert run.returncode == 0
    assert contents(place) == before


# Broken disks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "OGG"])
@pytest.mark.parametrize("seekable", [True, False])
def test_audio_that_breaks_off_anywhere_is_an_os_error(kind: str, seekable: bool, audio, temporary: Path, capfd):
    whole = Breaks(data := audio(5000, kind), seekable=seekable)
    pcm = read_audio(whole)
    assert whole.operations > (2 if seekable else 1)
    for left in range(whole.operations):
        with pytest.raises(OSError, match="the disk is broken"):
            read_audio(Breaks(data, left, seekable))
    assert np.array_equal(read_audio(Breaks(data, whole.operations, seekable)), pcm)
    assert list(temporary.iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AEA"])
def test_files_are_not_made_from_what_breaks_off(kind: str, audio, aea, place: Path, contents, small_chunks, capfd):
    target = place / ("out.wav" if kind == "AEA" else "out.aea")
    data = aea(5000) if kind == "AEA" else audio(5000, kind)

    def run(source: Breaks) -> None:
        if kind == "AEA":
            decode_file(source, target, build_decoder())
        else:
            encode_file(source, target, build_encoder())

    whole = Breaks(data)
    run(whole)
    target.write_bytes(b"before")
    before = contents(place)
    for left in range(whole.operations):
        with pytest.raises((OSError, AtracError)):
            run(Breaks(data, left))
        assert contents(place) == before
    assert capfd.readouterr().err == ""
    run(Breaks(data, whole.operations))
    assert contents(place) != before


def test_what_is_raised_while_libsndfile_reads_comes_out(audio, capfd):
    class Strange(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        read_audio(Strange(audio()))
    assert capfd.readouterr().err == ""
