"""Chunks: recordings of any length in pieces of one fixed size, with the silence that the codec's delay needs.

Every file is coded in the same chunks, however its samples arrive, and lead frames before a chunk settle the filters.
So the bytes depend on the samples alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import frames_for
from atrac_bitstream.tables import FRAME_SAMPLES

CHUNK_FRAMES: Final = 512
"""Frames of a chunk: about 6 s. With fewer, the overhead per operation weighs more; more do not fit into the cache."""
LEAD_FRAMES: Final = 2
"""Frames before a chunk that settle the filters, which remember less than two."""
_Number = TypeVar("_Number", np.float32, np.uint8)


@final
class Chunks(Generic[_Number]):
    """Cuts arrays that arrive in portions of any length into chunks of one length.

    Args:
        size: length of a chunk.
        axis: axis to cut.
        empty: array of length 0 along the axis.

    Example:
        >>> chunks = Chunks(3, 0, np.zeros(0, np.float32))
        >>> chunks.push(np.arange(5, dtype=np.float32)), chunks.rest()
        ([array([0., 1., 2.], dtype=float32)], array([3., 4.], dtype=float32))
    """

    def __init__(self, size: int, axis: int, empty: NDArray[_Number]) -> None:
        self._size, self._axis = size, axis
        self._empty: NDArray[_Number] = empty
        self._parts: list[NDArray[_Number]] = [empty]
        self._waiting = 0

    def push(self, part: NDArray[_Number]) -> list[NDArray[_Number]]:
        """Take a portion, which may be used again afterwards; return the chunks that are complete with it."""
        self._parts.append(part.copy())
        self._waiting += part.shape[self._axis]
        if self._waiting < self._size:
            return []
        ends = range(self._size, self._waiting + 1, self._size)
        parts: list[NDArray[_Number]] = np.split(np.concatenate(self._parts, self._axis), ends, self._axis)
        self._parts, self._waiting = [parts[-1]], parts[-1].shape[self._axis]
        return parts[:-1]

    def rest(self) -> NDArray[_Number]:
        """Return what is left, shorter than a chunk, and forget it."""
        rest = np.concatenate(self._parts, self._axis)
        self._parts, self._waiting = [self._empty], 0
        return rest


@final
class PcmChunks:
    """Cuts samples that arrive in portions of any length into chunks of whole frames.

    Args:
        channels: number of channels.
        frames_multiple: the recording is filled up with silence to a multiple of this many frames.
    """

    def __init__(self, channels: int, frames_multiple: int = 1) -> None:
        self._chunks = Chunks(CHUNK_FRAMES * FRAME_SAMPLES, 1, np.zeros((channels, 0), np.float32))
        self._multiple = frames_multiple
        self._returned = 0
        self.samples = 0
        """Samples per channel taken so far."""

    def push(self, pcm: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Take samples; return the chunks that are complete with them. Shape: [C, n] -> [C, chunk] each."""
        self.samples += pcm.shape[1]
        chunks = [np.ascontiguousarray(chunk) for chunk in self._chunks.push(pcm)]
        self._returned += sum(chunk.shape[1] for chunk in chunks)
        return chunks

    def finish(self) -> list[NDArray[np.float32]]:
        """Return the rest and the silence for the codec's delay. Shape: [C, 512 F] each, only the last one shorter."""
        left = frames_for(self.samples, self._multiple) * FRAME_SAMPLES - self._returned
        rest, size = self._chunks.rest(), CHUNK_FRAMES * FRAME_SAMPLES
        padded = np.pad(rest, ((0, 0), (0, left - rest.shape[1])))
        return [padded[:, start : start + size] for start in range(0, left, size)]


def padded_chunks(blocks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Cut a recording into chunks of whole frames, with the silence after it until the codec has returned its end.

    Shape: blocks [C, n] each -> [C, 512 F], F <= 512, and the number of samples that have arrived so far
    """
    chunks: PcmChunks | None = None
    for block in blocks:
        chunks = chunks or PcmChunks(len(block))
        for chunk in chunks.push(block):
            yield chunk, chunks.samples
    if chunks is not None and chunks.samples:
        yield from ((chunk, chunks.samples) for chunk in chunks.finish())
