"""Audio files: reading any that libsndfile reads as 44.1 kHz float32 blocks, writing whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from atrac_bitstream import AtracError, WholeFile
from atrac_bitstream.tables import SAMPLE_RATE

STREAM: Final = "-"
"""The name that stands for standard input or output."""
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


class AudioError(AtracError):
    """An audio file cannot be read, or holds what the codec cannot take."""


@final
class AudioReader:
    """Reads an audio file as blocks of 44.1 kHz samples, resampled where needed.

    Args:
        source: path, or `-` for standard input.

    Raises:
        AudioError: no audio that libsndfile reads, no samples, or more than two channels.
        OSError: the file cannot be opened.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self.name = "standard input" if str(source) == STREAM else str(source)
        self._binary = _seekable_stdin() if str(source) == STREAM else open(source, "rb")  # noqa: SIM115
        try:
            self._file = soundfile.SoundFile(self._binary)
        except soundfile.LibsndfileError as error:
            self._binary.close()
            raise AudioError(f"{self.name}: not read as audio: {error.error_string}") from error
        self.channels: int = self._file.channels
        self.sample_rate: int = self._file.samplerate
        try:
            if self.channels > 2:
                raise AudioError(f"{self.name}: {self.channels} channels, allowed 1 and 2")
            if self._file.frames == 0:
                raise AudioError(f"{self.name}: no samples, allowed 1 and more")
        except AudioError:
            self.close()
            raise
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
        except (TinyTagException, OSError, ValueError):
            return ""
        finally:
            self._binary.seek(position)

    def blocks(self, size: int = 1 << 16) -> Iterator[NDArray[np.float32]]:
        """Yield the samples in blocks of about `size`.

        Shape: [C, n] each
        Units: full scale +-1.0, 44.1 kHz
        Raises:
            AudioError: a sample is infinite or not a number, or the file breaks off within a block.
        """
        position = 0
        resampler = (
            None
            if self.sample_rate == SAMPLE_RATE
            else soxr.ResampleStream(self.sample_rate, SAMPLE_RATE, self.channels, dtype="float32")
        )
        try:
            for block in self._file.blocks(size, dtype="float32", always_2d=True):
                if not np.isfinite(block).all():
                    sample, channel = np.argwhere(~np.isfinite(block))[0]
                    raise AudioError(
                        f"{self.name}: sample {position + sample} of channel {channel} is "
                        f"{block[sample, channel]}, allowed finite numbers"
                    )
                position += len(block)
                if resampler is not None:
                    block = resampler.resample_chunk(block)
                if len(block):
                    yield np.ascontiguousarray(block.T)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self.name}: reading stopped at sample {position}: {error.error_string}") from error
        if resampler is not None and len(
            rest := resampler.resample_chunk(np.zeros((0, self.channels), np.float32), last=True)
        ):
            yield np.ascontiguousarray(rest.T)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._binary.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@final
class AudioWriter:
    """Writes a 44.1 kHz audio file under a temporary name until it is complete.

    Args:
        target: path, whose ending names the format, or `-` for WAV to standard output.
        channels: 1 or 2.
        samples: `16`, `24` or `float`.
        title: title tag, where the format has one.

    Samples beyond full scale are clipped in the integer formats and counted in `clipped`.

    Raises:
        AudioError: the ending names no format that libsndfile writes with such samples.
        OSError: the file cannot be written.
    """

    def __init__(self, target: str | os.PathLike[str], channels: int, samples: str = "16", title: str = "") -> None:
        suffix = ".wav" if str(target) == STREAM else Path(target).suffix.lower()
        container = {".aif": "AIFF", ".oga": "OGG"}.get(suffix, suffix[1:].upper())
        if samples not in SUBTYPES:
            raise AudioError(f"samples {samples!r}, allowed {', '.join(SUBTYPES)}")
        if not soundfile.check_format(container, SUBTYPES[samples]):
            raise AudioError(
                f"{target}: files ending in {suffix or 'nothing'} with {samples} samples cannot be written, "
                "allowed for example .wav, .flac, .aiff"
            )
        self._samples = samples
        self.clipped = 0
        """Samples that were beyond full scale and had to be cut."""
        self._whole = WholeFile(sys.stdout.buffer if str(target) == STREAM else target)
        try:
            self._file = soundfile.SoundFile(
                self._whole.path, "w", SAMPLE_RATE, channels, SUBTYPES[samples], format=container
            )
        except soundfile.LibsndfileError as error:
            self._whole.discard()
            raise AudioError(f"{target}: {error.error_string}") from error
        if title:
            with contextlib.suppress(soundfile.LibsndfileError):
                self._file.title = title

    def write(self, pcm: NDArray[np.float32]) -> None:
        """Append samples. Shape: [C, n]. Units: full scale +-1.0."""
        if self._samples == "float":
            self._file.write(pcm.T)
            return
        # Scaled and rounded here: libsndfile takes 32767 for full scale, everything else 32768.
        bits = int(self._samples)
        scaled = np.round(pcm.T.astype(np.float64) * 2 ** (bits - 1))
        clipped = np.clip(scaled, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        self.clipped += int((clipped != scaled).sum())
        self._file.write((clipped.astype(np.int32) << (32 - bits)).astype(np.int32))

    def close(self) -> None:
        """Complete the file and give it its name."""
        if not self._file.closed:
            self._file.close()
            self._whole.commit()

    def abort(self) -> None:
        """Give up: remove what was written so far. After `close` it does nothing."""
        with contextlib.suppress(soundfile.LibsndfileError):
            self._file.close()
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


def read_audio(source: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read a whole audio file. Shape: [C, N]. Units: full scale +-1.0, 44.1 kHz. Raises: as `AudioReader`."""
    with AudioReader(source) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)


def _seekable_stdin() -> BinaryIO:
    """Copy standard input to a temporary file, so that a pipe gives what a file gives."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, file)
    file.seek(0)
    return file
