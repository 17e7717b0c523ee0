"""Comparison of a decoded recording with its original, block by block in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import torch
from numpy.typing import NDArray

from atrac_bitstream import AeaReader, AtracError
from atrac_codec.audio import AudioReader
from atrac_codec.chunks import Chunks
from atrac_codec.files import decoded_blocks
from atrac_codec.presets import build_decoder
from atrac_losses import RunningMeasures

Source = str | os.PathLike[str] | BinaryIO
_LONGEST_LAG: Final = 4096
_BLOCK: Final = 1 << 17
"""Samples measured at a time."""


class SourceError(AtracError):
    """One of the recordings cannot be read.

    Args:
        place: 0 for the reference, 1 for the decoded recording.
        cause: the AtracError or OSError.
    """

    def __init__(self, place: int, cause: Exception) -> None:
        super().__init__(str(cause))
        self.place, self.cause = place, cause


def compare(reference: Source, decoded: Source) -> dict[str, float | int]:
    """Measure the difference between two recordings, over the length of the shorter one.

    Args:
        reference: audio file of the original.
        decoded: audio file; an .aea file is decoded by decoder `standard`, and so is a reference that is one.

    Returns:
        The numbers of samples of both; the lag in samples, positive if the decoded recording is later; and the
        measures of `RunningMeasures`, means over the channels.

    Raises:
        SourceError: a recording cannot be read.
        ValueError: the numbers of channels differ, or a recording has no samples.
    """
    with ExitStack() as stack:
        first, second = (_Recording(place, source, stack) for place, source in enumerate((reference, decoded)))
        if first.channels != second.channels:
            raise ValueError(f"{first.channels} and {second.channels} channels, allowed the same number")
        measures, lag = RunningMeasures(first.channels), _Lag()
        for x, y in zip(first.chunks(), second.chunks()):
            n = min(x.shape[1], y.shape[1])
            measures.push(torch.from_numpy(y[:, :n].copy()), torch.from_numpy(x[:, :n].copy()))
            lag.push(x[:, :n].mean(0, dtype=np.float64), y[:, :n].mean(0, dtype=np.float64))
        found = measures.result()
        for recording in (first, second):
            recording.read_on()
        counts = {"reference samples": first.samples, "decoded samples": second.samples}
        return {**counts, "lag (samples)": lag.result(), **found}


class _Recording:
    """An audio file or a decoded .aea file in chunks of one length."""

    def __init__(self, place: int, source: Source, stack: ExitStack) -> None:
        self._place = place
        self.samples = 0
        """Samples per channel read so far."""
        try:
            if isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".aea":
                aea = stack.enter_context(AeaReader(source))
                self.channels, self._blocks = aea.channels, decoded_blocks(aea, build_decoder())
            else:
                audio = stack.enter_context(AudioReader(source))
                self.channels, self._blocks = audio.channels, audio.blocks()
        except (AtracError, OSError) as error:
            raise SourceError(place, error) from error

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """Yield chunks [C, n], of which only the last one is shorter. Raises: SourceError."""
        chunks = Chunks(_BLOCK, 1, np.zeros((self.channels, 0), np.float32))
        for block in self._read():
            yield from chunks.push(block)
        yield chunks.rest()

    def read_on(self) -> None:
        """Count the samples that are left. Raises: SourceError."""
        for _ in self._read():
            pass

    def _read(self) -> Iterator[NDArray[np.float32]]:
        try:
            for block in self._blocks:
                self.samples += block.shape[1]
                yield block
        except (AtracError, OSError) as error:
            raise SourceError(self._place, error) from error


class _Lag:
    """The lag of the largest cross-correlation, up to 4096 samples either way, summed chunk by chunk."""

    def __init__(self) -> None:
        self._sums = np.zeros(2 * _LONGEST_LAG + 1)
        self._x, self._y = np.zeros(0), np.zeros(_LONGEST_LAG)  # y from `_LONGEST_LAG` samples before x on
        self._samples = 0

    def push(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Take the next samples of both, [n] each."""
        self._samples += len(x)
        self._x, self._y = np.concatenate([self._x, x]), np.concatenate([self._y, y])
        self._add(len(self._x) - _LONGEST_LAG)

    def result(self) -> int:
        """Return the lag in samples, positive if y is later."""
        self._y = np.concatenate([self._y, np.zeros(_LONGEST_LAG)])
        self._add(len(self._x))
        longest = min(_LONGEST_LAG, self._samples - 1)
        return int(self._sums[_LONGEST_LAG - longest :][: 2 * longest + 1].argmax()) - longest

    def _add(self, n: int) -> None:
        """Add the products of the next n samples of x with all samples of y within the longest lag."""
        if n <= 0:
            return
        x, y, size = self._x[:n], self._y[: n + 2 * _LONGEST_LAG], 1 << (n + 2 * _LONGEST_LAG).bit_length()
        products = np.fft.irfft(np.fft.rfft(y, size) * np.fft.rfft(x, size).conj(), size)
        self._sums += products[: len(self._sums)]
        self._x, self._y = self._x[n:], self._y[n:]
