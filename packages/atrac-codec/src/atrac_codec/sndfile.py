"""Safe use of libsndfile: Python files as its callbacks, deferred signals, and checks of broken headers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import soundfile

from atrac_bitstream import AtracError


class AudioError(AtracError):
    """An audio file cannot be read or written, or the codec cannot encode its content."""


class Callbacks:
    """A binary file for libsndfile.

    libsndfile calls the methods from C, where an exception would be lost; `checked` raises it afterwards.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._error: BaseException | None = None

    @contextlib.contextmanager
    def checked(self, what: str) -> Iterator[None]:
        """Raise the exception of a method that was called in the block, or libsndfile's error as an `AudioError`."""
        try:
            with signals_wait():
                yield
        except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that everything was written
            if self._error is None:
                reason = getattr(error, "error_string", "libsndfile gave up")
                raise AudioError(f"{self._name}: {what}: {reason}") from error
        if self._error is not None:
            raise self._error

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer; return the number of bytes."""
        return self._keep(self._fill, buffer)

    def write(self, data: bytes) -> int:
        """Write; return the number of bytes."""
        return self._keep(self._file.write, data)

    def seek(self, offset: int, whence: int) -> int:
        """Move; return the position."""
        return self._keep(self._move, offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._keep(self._file.tell)

    def _fill(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer) and (data := self._file.read(len(buffer) - done)):
            buffer[done : done + len(data)] = data
            done += len(data)
        return done

    def _move(self, offset: int, whence: int) -> int:
        """Seek, or stay if a broken header asks for an impossible position; libsndfile then reports the error."""
        here = self._file.tell()
        if whence != os.SEEK_SET:
            offset += here if whence == os.SEEK_CUR else self._file.seek(0, os.SEEK_END)
        return self._file.seek(offset if 0 <= offset < 1 << 43 else here)

    def _keep(self, operation: Callable[..., int], *arguments: Any) -> int:
        try:
            return operation(*arguments)
        except BaseException as error:
            self._error = self._error or error
            return 0


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Defer SIGINT and SIGTERM to the end of the block: exceptions of their handlers would be lost in C."""
    handlers: dict[signal.Signals, Any] = {}
    waiting: list[int] = []
    try:
        if threading.current_thread() is threading.main_thread():  # only there handlers run
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(handler := signal.getsignal(number)):
                    handlers[number] = handler
                    signal.signal(number, lambda number, frame: waiting.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in waiting:
            signal.raise_signal(late)


def missing_bytes(log: str) -> int:
    """Return by how many bytes a file is shorter than its header states, according to libsndfile's log of reading it.

    A stated size of about 2 or 4 GiB does not count: programs that write to a pipe put it for an unknown size.
    """
    sizes = re.search(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", log, re.M)
    stated, there = map(int, sizes.groups()) if sizes else (0, 0)
    return max(0, stated - there) if stated < 0x7FFFF000 else 0


def size_of(file: BinaryIO) -> int:
    """Return the number of bytes of a file."""
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)  # libsndfile continues from there
    return size


def copy_of(file: BinaryIO) -> BinaryIO:
    """Copy a pipe to a temporary file, which can seek."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
    except BaseException:
        with contextlib.suppress(OSError):  # on a full disk the last flush may fail too
            copy.close()
        raise
    return copy
