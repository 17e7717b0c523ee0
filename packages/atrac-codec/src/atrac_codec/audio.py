"""Audio files: reading any that libsndfile reads as 44.1 kHz float32 blocks, writing whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from atrac_bitstream import AtracError, WholeFile
from atrac_bitstream.tables import SAMPLE_RATE

SUFFIXES: Final = frozenset(f".{name.lower()}" for name in soundfile.available_formats()) | {
    ".aif",
    ".aifc",
    ".oga",
    ".opus",
    ".mp3",
}
"""File name endings of audio files, for folders."""
SUBTYPES: Final = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
"""Sample formats that can be written."""
LONGEST: Final = 0xFFFFFFFF - 0xFFFF
"""Bytes of samples that a WAV or AIFF file holds at most, with room for its headers; its sizes have 32 bits."""
_SHORT_SIZES: Final = frozenset({"WAV", "WAVEX", "AIFF"})
LOUDEST: Final = 1e10
"""Largest magnitude of a sample that is taken; sums of squares of larger ones would leave the range of float32."""


class AudioError(AtracError):
    """An audio file cannot be read, or holds what the codec cannot take."""


@final
class AudioReader:
    """Reads an audio file as blocks of 44.1 kHz samples, resampled where needed.

    Args:
        source: path, or binary file object, which is left open and, if it cannot seek, copied to a temporary file.

    Raises:
        AudioError: no audio that libsndfile reads, no samples, more than two channels, or a file shorter than its
            header states.
        OSError: the file cannot be read.
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            self._binary: BinaryIO
            self.name = _name(source)
            if isinstance(source, str | os.PathLike):
                source = self._open.enter_context(open(source, "rb"))
            self._binary = source if source.seekable() else self._open.enter_context(_copy(source))
            self._callbacks = _Callbacks(self._binary, self.name)
            with self._callbacks.checked("not read as audio"):
                self._file = self._open.enter_context(soundfile.SoundFile(self._callbacks))
            self.channels: int = self._file.channels
            self.sample_rate: int = self._file.samplerate
            if self.channels > 2:
                raise AudioError(f"{self.name}: {self.channels} channels, allowed 1 and 2")
            if self._file.frames == 0:
                raise AudioError(f"{self.name}: no samples, allowed 1 and more")
            if self._file.format in _SHORT_SIZES and _size(self._binary) > 0xFFFFFFFF + 8:
                raise AudioError(
                    f"{self.name}: longer than 4 GiB, more than {self._file.format} can hold, allowed for example "
                    ".w64 and .flac"
                )
            if missing := _missing_bytes(self._file.extra_info):
                raise AudioError(
                    f"{self.name}: the file ends after {self._file.frames} samples, {missing} bytes before the end "
                    "that its header states"
                )
            on_error.pop_all()
        self.duration = self._file.frames / self.sample_rate
        """Seconds, as the file states it."""

    @property
    def title(self) -> str:
        """The title tag, as libsndfile or else tinytag reads it; empty if there is none."""
        if self._file.title:
            return str(self._file.title)
        from tinytag import TinyTag, TinyTagException

        position = self._binary.tell()
        try:
            self._binary.seek(0)
            return TinyTag.get(filename=self.name, file_obj=self._binary).title or ""
        except (TinyTagException, ValueError):
            return ""
        finally:
            self._binary.seek(position)

    def blocks(self, size: int = 1 << 16) -> Iterator[NDArray[np.float32]]:
        """Yield the samples in blocks of about `size`.

        Shape: [C, n] each
        Units: full scale +-1.0, 44.1 kHz
        Raises:
            AudioError: a sample is infinite, not a number, or beyond `LOUDEST`, or the file breaks off.
            OSError: the file cannot be read.
        """
        size = max(1, min(size, size * self.sample_rate // SAMPLE_RATE))  # a low rate makes many samples out of few
        resampler = (
            None
            if self.sample_rate == SAMPLE_RATE
            else soxr.ResampleStream(self.sample_rate, SAMPLE_RATE, self.channels, dtype="float32")
        )
        for block, last in self._blocks(size):
            if resampler is not None:
                block = resampler.resample_chunk(block, last=last)
            if len(block):
                yield np.ascontiguousarray(block.T)

    def _blocks(self, size: int) -> Iterator[tuple[NDArray[np.float32], bool]]:
        """Yield the samples as they are in the file, [n, C], and whether they are the last ones."""
        position, end = 0, self._file.frames
        while position < end:
            with self._callbacks.checked(f"reading stopped at sample {position} of {end}"):
                block = self._file.read(min(size, end - position), dtype="float32", always_2d=True)
            if not len(block):
                raise AudioError(f"{self.name}: the file ends after sample {position} of {end}")
            if (wrong := ~(np.abs(block) <= LOUDEST)).any():
                sample, channel = np.argwhere(wrong)[0]
                raise AudioError(
                    f"{self.name}: sample {position + sample} of channel {channel} is "
                    f"{block[sample, channel]}, allowed finite numbers up to {LOUDEST:g} (full scale is 1)"
                )
            position += len(block)
            yield block, position == end

    def close(self) -> None:
        """Close what was opened here."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@final
class AudioWriter:
    """Writes a 44.1 kHz audio file under a temporary name until it is complete.

    Args:
        target: path, whose ending names the format, or binary file object, which gets a WAV file in one go at the
            end and is left open.
        channels: 1 or 2.
        samples: `16`, `24` or `float`.
        title: title tag, where the format has one.

    Samples beyond full scale are clipped in the integer formats and counted in `clipped`.

    Raises:
        AudioError: the ending names no format that libsndfile writes with such samples.
        OSError: the file cannot be written.
    """

    def __init__(
        self, target: str | os.PathLike[str] | BinaryIO, channels: int, samples: str = "16", title: str = ""
    ) -> None:
        name = _name(target)
        suffix = Path(target).suffix.lower() if isinstance(target, str | os.PathLike) else ".wav"
        container = {".aif": "AIFF", ".oga": "OGG"}.get(suffix, suffix[1:].upper())
        if samples not in SUBTYPES:
            raise AudioError(f"samples {samples!r}, allowed {', '.join(SUBTYPES)}")
        if not soundfile.check_format(container, SUBTYPES[samples]):
            raise AudioError(
                f"{name}: files ending in {suffix or 'nothing'} with {samples} samples cannot be written, "
                "allowed for example .wav, .flac, .aiff"
            )
        self._samples, self._name = samples, name
        self._room = LONGEST if container in _SHORT_SIZES else None
        self.clipped = 0
        """Samples that were beyond full scale and had to be cut."""
        self._whole = WholeFile(target)
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._whole.discard)
            self._binary = on_error.enter_context(self._whole.path.open("w+b"))
            self._callbacks = _Callbacks(self._binary, name)
            with self._callbacks.checked("not written"):
                self._file = soundfile.SoundFile(
                    self._callbacks, "w", SAMPLE_RATE, channels, SUBTYPES[samples], format=container
                )
            if title:
                with contextlib.suppress(soundfile.LibsndfileError):
                    self._file.title = title
            on_error.pop_all()

    def write(self, pcm: NDArray[np.float32]) -> None:
        """Append samples.

        Shape: [C, n]
        Units: full scale +-1.0
        Raises:
            OSError: the file cannot be written.
            AudioError: a WAV or AIFF file would get longer than 4 GiB.
        """
        data = pcm.T
        if self._room is not None:
            self._room -= data.size * {"16": 2, "24": 3, "float": 4}[self._samples]
            if self._room < 0:
                raise AudioError(
                    f"{self._name}: longer than 4 GiB, more than this format can hold, "
                    "allowed for example .w64 and .flac"
                )
        if self._samples != "float":
            # Scaled and rounded here: libsndfile takes 32767 for full scale, everything else 32768.
            bits = int(self._samples)
            scaled = np.round(pcm.T.astype(np.float64) * 2 ** (bits - 1))
            clipped = np.clip(scaled, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            self.clipped += int((clipped != scaled).sum())
            data = (clipped.astype(np.int32) << (32 - bits)).astype(np.int32)
        with self._callbacks.checked("not written"):
            self._file.write(data)

    def close(self) -> None:
        """Complete the file and give it its name."""
        if self._binary.closed:
            return
        try:
            with self._callbacks.checked("not written"):
                self._file.close()
            self._binary.close()
        except BaseException:
            self.abort()
            raise
        self._whole.commit()

    def abort(self) -> None:
        """Give up: remove what was written so far. After `close` it does nothing."""
        with _signals_wait():
            with contextlib.suppress(soundfile.LibsndfileError):
                self._file.close()
            with contextlib.suppress(OSError):  # a full disk may refuse the last flush too
                self._binary.close()
            self._whole.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def read_audio(source: str | os.PathLike[str] | BinaryIO) -> NDArray[np.float32]:
    """Read a whole audio file. Shape: [C, N]. Units: full scale +-1.0, 44.1 kHz. Raises: as `AudioReader`."""
    with AudioReader(source) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)


class _Callbacks:
    """A binary file for libsndfile, which calls it back from C, where an exception would be lost: it waits here."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._error: BaseException | None = None

    @contextlib.contextmanager
    def checked(self, what: str) -> Iterator[None]:
        """Raise the exception that waits; or an `AudioError` that begins with `what`, if libsndfile has one."""
        try:
            with _signals_wait():
                yield
        except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all was written
            if self._error is None:
                reason = getattr(error, "error_string", "libsndfile gave up")
                raise AudioError(f"{self._name}: {what}: {reason}") from error
        if self._error is not None:
            raise self._error

    def readinto(self, buffer: memoryview) -> int:
        return self._keep(self._fill, buffer)

    def write(self, data: bytes) -> int:
        return self._keep(self._file.write, data)

    def seek(self, offset: int, whence: int) -> int:
        return self._keep(self._move, offset, whence)

    def tell(self) -> int:
        return self._keep(self._file.tell)

    def _fill(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer) and (data := self._file.read(len(buffer) - done)):
            buffer[done : done + len(data)] = data
            done += len(data)
        return done

    def _move(self, offset: int, whence: int) -> int:
        """Seek; or stay, if a broken header leads out of every file: libsndfile then says what is wrong with it."""
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
def _signals_wait() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait: what their handlers raise in a function that C calls back would be lost."""
    handlers: dict[signal.Signals, Any] = {}
    waiting: list[int] = []
    try:
        if threading.current_thread() is threading.main_thread():  # where handlers run
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


def _missing_bytes(log: str) -> int:
    """Return by how many bytes a file is shorter than its header states, from libsndfile's notes on reading it.

    A size of about 2 or 4 GiB is what programs write that could not know it.
    """
    sizes = re.search(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", log, re.M)
    stated, there = map(int, sizes.groups()) if sizes else (0, 0)
    return max(0, stated - there) if stated < 0x7FFFF000 else 0


def _name(file: str | os.PathLike[str] | BinaryIO) -> str:
    return str(file if isinstance(file, str | os.PathLike) else getattr(file, "name", "the stream"))


def _size(file: BinaryIO) -> int:
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)  # libsndfile goes on from where it was
    return size


def _copy(file: BinaryIO) -> BinaryIO:
    """Copy a pipe to a temporary file, so that it gives what a file gives."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk may refuse the last flush too
            copy.close()
        raise
    return copy
