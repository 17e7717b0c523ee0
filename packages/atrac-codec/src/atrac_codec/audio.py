"""Audio files: any that libsndfile reads, as blocks of float32 at 44.1 kHz; files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self, final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from atrac_bitstream import WholeFile
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec.sndfile import AudioError, Callbacks, copy_of, missing_bytes, signals_wait, size_of

_MORE_SUFFIXES: Final = {".aif", ".aifc", ".oga", ".opus", ".mp3"}
SUFFIXES: Final = frozenset({f".{name.lower()}" for name in soundfile.available_formats()} | _MORE_SUFFIXES)
"""File name endings of audio files, for folders."""
SUBTYPES: Final = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
"""Sample formats that can be written."""
LONGEST: Final = 0xFFFFFFFF - 0xFFFF
"""Largest number of bytes of samples in a WAV or AIFF file, whose sizes have 32 bits, less room for its headers."""
_SHORT_SIZES: Final = frozenset({"WAV", "WAVEX", "AIFF"})
LOUDEST: Final = 1e10
"""Largest magnitude of a sample that is accepted; sums of squares of larger ones would leave the range of float32."""


@final
class AudioReader:
    """Reads an audio file as blocks of 44.1 kHz samples, resampled where needed.

    Args:
        source: path, or binary file object, which is left open and, if it cannot seek, copied to a temporary file.

    Raises:
        AudioError: libsndfile cannot read the file, or it has no samples, more than two channels, or fewer bytes than
            its header states.
        OSError: the file cannot be read.
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            self.name = _name(source)
            if isinstance(source, str | os.PathLike):
                source = self._open.enter_context(open(source, "rb"))
            self._binary: BinaryIO = source if source.seekable() else self._open.enter_context(copy_of(source))
            self._callbacks = Callbacks(self._binary, self.name)
            with self._callbacks.checked("not read as audio"):
                self._file = self._open.enter_context(soundfile.SoundFile(self._callbacks))
            self.channels: int = self._file.channels
            self.sample_rate: int = self._file.samplerate
            if self.channels > 2:
                raise AudioError(f"{self.name}: {self.channels} channels, allowed 1 and 2")
            if self._file.frames == 0:
                raise AudioError(f"{self.name}: no samples, allowed 1 and more")
            if self._file.format in _SHORT_SIZES and size_of(self._binary) > 0xFFFFFFFF + 8:
                raise _too_long(self.name, self._file.format)
            if missing := missing_bytes(self._file.extra_info):
                end = f"the file ends after {self._file.frames} samples"
                raise AudioError(f"{self.name}: {end}, {missing} bytes before the end that its header states")
            on_error.pop_all()
        self.duration: float = self._file.frames / self.sample_rate
        """Seconds, according to the header."""

    @property
    def title(self) -> str:
        """The title tag, read by libsndfile or else by tinytag; empty if there is none."""
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
        size = max(1, min(size, size * self.sample_rate // SAMPLE_RATE))  # resampling a low rate makes blocks longer
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
        """Yield the samples of the file, [n, C], and whether they are the last ones."""
        position, end = 0, self._file.frames
        while position < end:
            with self._callbacks.checked(f"reading stopped at sample {position} of {end}"):
                block = self._file.read(min(size, end - position), dtype="float32", always_2d=True)
            if not len(block):
                raise AudioError(f"{self.name}: the file ends after sample {position} of {end}")
            if (wrong := ~(np.abs(block) <= LOUDEST)).any():
                sample, channel = np.argwhere(wrong)[0]
                found = f"sample {position + sample} of channel {channel} is {block[sample, channel]}"
                raise AudioError(f"{self.name}: {found}, allowed finite numbers up to {LOUDEST:g} (full scale is 1)")
            position += len(block)
            yield block, position == end

    def close(self) -> None:
        """Close the files that were opened here; a file object of the caller stays open."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@final
class AudioWriter:
    """Writes a 44.1 kHz audio file under a temporary name until it is complete.

    Args:
        target: path, whose ending names the format, or binary file object, which receives a WAV file in one go at
            the end and is left open.
        channels: 1 or 2.
        samples: `16`, `24` or `float`.
        title: title tag, where the format has one.

    Samples beyond full scale are clipped in the integer formats and counted in `clipped`.

    Raises:
        AudioError: libsndfile cannot write such samples in the format that the ending names.
        OSError: the file cannot be written.
    """

    def __init__(
        self, target: str | os.PathLike[str] | BinaryIO, channels: int, samples: str = "16", title: str = ""
    ) -> None:
        self._name = _name(target)
        suffix = Path(target).suffix.lower() if isinstance(target, str | os.PathLike) else ".wav"
        container = {".aif": "AIFF", ".oga": "OGG"}.get(suffix, suffix[1:].upper())
        if samples not in SUBTYPES:
            raise AudioError(f"samples {samples!r}, allowed {', '.join(SUBTYPES)}")
        if not soundfile.check_format(container, SUBTYPES[samples]):
            kind = f"files ending in {suffix or 'nothing'} with {samples} samples"
            raise AudioError(f"{self._name}: {kind} cannot be written, allowed for example .wav, .flac, .aiff")
        self._samples = samples
        self._room = LONGEST if container in _SHORT_SIZES else None
        self.clipped = 0
        """Number of samples beyond full scale that were clipped."""
        self._whole = WholeFile(target)
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._whole.discard)
            self._binary = on_error.enter_context(self._whole.path.open("w+b"))
            self._callbacks = Callbacks(self._binary, self._name)
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
                raise _too_long(self._name, "this format")
        if self._samples != "float":
            # Scaled and rounded here, because libsndfile scales by 32767, other programs by 32768.
            bits = int(self._samples)
            scaled = np.round(data.astype(np.float64) * 2 ** (bits - 1))
            clipped = np.clip(scaled, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            self.clipped += int((clipped != scaled).sum())
            data = clipped.astype(np.int32) << (32 - bits)
        with self._callbacks.checked("not written"):
            self._file.write(data)

    def close(self) -> None:
        """Complete the file, which then appears under its name."""
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
        """Remove the unfinished file. After `close` it does nothing."""
        with signals_wait():
            with contextlib.suppress(soundfile.LibsndfileError):
                self._file.close()
            with contextlib.suppress(OSError):  # on a full disk the last flush may fail too
                self._binary.close()
            self._whole.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def read_audio(source: str | os.PathLike[str] | BinaryIO) -> NDArray[np.float32]:
    """Read a whole audio file. Shape: [C, N]. Units: full scale +-1.0, 44.1 kHz. Raises: as `AudioReader`."""
    with AudioReader(source) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)


def _name(file: str | os.PathLike[str] | BinaryIO) -> str:
    name = file if isinstance(file, str | os.PathLike) else getattr(file, "name", None)
    return "the stream" if name is None or isinstance(name, int) else str(name)  # files of descriptors have numbers


def _too_long(name: str, kind: str) -> AudioError:
    return AudioError(f"{name}: longer than 4 GiB, more than {kind} can hold, allowed for example .w64 and .flac")
