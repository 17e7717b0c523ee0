"""AEA files: a 2048-byte header, then sound units, the channels of a frame one after the other.

    0 magic | 4 title (256 bytes, with the value 8 at byte 210) | 260 u32 count | 264 channels | 1024 length tag

Sound units pass through as raw bytes and need not be valid, so copying a file copies every bit of it.
Source: docs/format.md.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.errors import AeaError, TruncatedError
from atrac_bitstream.tables import FRAME_SAMPLES, SOUND_UNIT_BYTES
from atrac_bitstream.whole_file import WholeFile

HEADER_BYTES: Final = 2048
MAGIC: Final = b"\x00\x08\x00\x00"
TITLE: Final = slice(4, 260)
TITLE_WRITTEN: Final = slice(4, 209)
"""Where our own titles go: byte 209 ends the longest one, and byte 210 is taken."""
MARK_OFFSET: Final = 210
MARK: Final = 8
"""FFmpeg 5.1 recognises a file of another name only by this byte and a zero after it: copies of bytes 1 and 0."""
COUNT_OFFSET: Final = 260
CHANNELS_OFFSET: Final = 264
LENGTH_OFFSET: Final = 1024
LENGTH_MAGIC: Final = b"A1LENGTH"
"""Followed by the number of PCM samples per channel that were encoded, u64 little-endian."""
CODEC_DELAY: Final = 266
"""Samples by which encoding and decoding delay the signal, the same for every known encoder and decoder."""
FRAMES_MULTIPLE: Final = 8
"""The 2026 atracdenc decoder aborts on files whose number of frames mod 8 is 6 or 7, or which are shorter."""


@final
class AeaHeader:
    """The 2048 bytes before the sound units, and views of what is known of them.

    Args:
        data: the header as read. Kept whole, unknown parts too.

    Raises:
        TruncatedError: fewer than 2048 bytes.
        AeaError: the magic is missing, or the number of channels is not 1 or 2.
    """

    def __init__(self, data: bytes) -> None:
        data = bytes(data)
        if len(data) < HEADER_BYTES:
            raise TruncatedError(f"the file ends after {len(data)} bytes, a header has {HEADER_BYTES}")
        if not data.startswith(MAGIC):
            raise AeaError(f"the file begins with {data[:4].hex(' ')}, an AEA file with {MAGIC.hex(' ')}")
        if data[CHANNELS_OFFSET] not in (1, 2):
            raise AeaError(f"channels = {data[CHANNELS_OFFSET]}, allowed 1 and 2 (header byte {CHANNELS_OFFSET})")
        self.data = data[:HEADER_BYTES]

    @classmethod
    def make(cls, channels: int, unit_count: int = 0, title: str = "", samples: int | None = None) -> AeaHeader:
        """Make a header.

        Args:
            channels: 1 or 2.
            unit_count: number of sound units, frames x channels.
            title: cut at a character to 205 bytes of UTF-8.
            samples: PCM samples per channel for the length tag, which lets a decoder give back exactly those;
                None writes no tag.

        Raises:
            AeaError: channels or unit_count do not fit their fields.

        Example:
            >>> AeaHeader.make(2, title="Étude", samples=44100).title
            'Étude'
        """
        if not 0 <= unit_count < 1 << 32:
            raise AeaError(f"{unit_count} sound units, allowed 0..{(1 << 32) - 1}")
        if channels not in (1, 2):
            raise AeaError(f"channels = {channels}, allowed 1 and 2")
        if samples is not None and not 0 <= samples < 1 << 64:
            raise AeaError(f"{samples} samples, allowed 0..{(1 << 64) - 1}")
        data = bytearray(HEADER_BYTES)
        data[: len(MAGIC)] = MAGIC
        room = TITLE_WRITTEN.stop - TITLE_WRITTEN.start
        text = title.encode("utf-8", "replace")[:room].decode("utf-8", "ignore").encode()
        data[TITLE_WRITTEN.start : TITLE_WRITTEN.start + len(text)] = text
        data[MARK_OFFSET] = MARK
        struct.pack_into("<IB", data, COUNT_OFFSET, unit_count, channels)
        if samples is not None:
            struct.pack_into("<8sQ", data, LENGTH_OFFSET, LENGTH_MAGIC, samples)
        return cls(bytes(data))

    @property
    def title(self) -> str:
        """The title up to its first zero byte; bytes that are no UTF-8 are read as Latin-1."""
        text = self.data[TITLE].split(b"\0", 1)[0]
        if text[MARK_OFFSET - TITLE.start :][:1] == bytes([MARK]):
            text = text[
                : MARK_OFFSET - TITLE.start
            ]  # the recognition mark is no text, and ends a title that reaches it
        try:
            return text.decode()
        except UnicodeDecodeError:
            return text.decode("latin-1")

    @property
    def unit_count(self) -> int:
        """Number of sound units as written; no reader relies on it, and atracdenc writes it wrong."""
        return int(struct.unpack_from("<I", self.data, COUNT_OFFSET)[0])

    @property
    def channels(self) -> int:
        """1 or 2."""
        return self.data[CHANNELS_OFFSET]

    @property
    def samples(self) -> int | None:
        """PCM samples per channel from the length tag, None without a tag."""
        magic, samples = struct.unpack_from("<8sQ", self.data, LENGTH_OFFSET)
        return int(samples) if magic == LENGTH_MAGIC else None


@final
class AeaReader:
    """Reads an AEA file as a stream of raw frames.

    Args:
        source: path, or binary file object, which is left open and need not be seekable.

    Raises:
        AeaError, TruncatedError: the header cannot be used.
        OSError: the file cannot be read.

    Example:
        >>> import io
        >>> file = io.BytesIO(AeaHeader.make(channels=2).data + bytes(4 * 212))
        >>> with AeaReader(file) as reader:
        ...     reader.channels, reader.read().shape
        (2, (2, 2, 212))
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        self._own = isinstance(source, str | os.PathLike)
        self._file: BinaryIO = open(source, "rb") if isinstance(source, str | os.PathLike) else source  # noqa: SIM115
        try:
            self.header = AeaHeader(_read_exactly(self._file, HEADER_BYTES))
        except BaseException:
            self.close()
            raise
        self.channels = self.header.channels
        self.position = 0
        """Frames read so far."""

    def read(self, frames: int = -1) -> NDArray[np.uint8]:
        """Read the next frames, fewer at the end, all that are left for -1.

        Shape: [F, C, 212]
        Raises:
            TruncatedError: the file ends within a frame; its place is named. What came before can be had by
                reading frame by frame.
        """
        size = self.channels * SOUND_UNIT_BYTES
        data = _read_exactly(self._file, frames * size if frames >= 0 else -1)
        if len(data) % size:
            frame, rest = divmod(len(data), size)
            raise TruncatedError(
                f"the file ends in frame {self.position + frame}, after {rest} of {size} bytes "
                f"({self.channels} sound units of {SOUND_UNIT_BYTES} bytes)"
            )
        units = np.frombuffer(data, np.uint8).reshape(-1, self.channels, SOUND_UNIT_BYTES)
        self.position += len(units)
        return units

    def blocks(self, frames: int) -> Iterator[NDArray[np.uint8]]:
        """Yield all frames in blocks of `frames`, the last one shorter. Shape: [frames, C, 212] each."""
        while len(units := self.read(frames)):
            yield units

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._own:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@final
class AeaWriter:
    """Writes an AEA file as a stream of raw frames, under a temporary name until it is complete.

    The file takes its final name when the writer is closed, or the with block left, without an error; else
    nothing remains. A file object is written to in one go at the end, so it need not be seekable.

    Args:
        target: path, or binary file object, which is left open.
        channels: 1 or 2.
        title: cut at a character to 205 bytes of UTF-8.
        header: write this header as it is (to copy a file bit for bit), and neither title nor length tag.

    Raises:
        AeaError: channels is neither 1 nor 2.
        ValueError: the header given has another number of channels.
        OSError: the file cannot be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        channels: int,
        title: str = "",
        *,
        header: AeaHeader | None = None,
    ) -> None:
        if header is not None and header.channels != channels:
            raise ValueError(f"channels = {channels}, but the header given has {header.channels}")
        self._given = header or AeaHeader.make(channels, title=title)
        self._copied = header is not None
        self._title = title
        self.channels = self._given.channels
        self.frames = 0
        """Frames written so far."""
        self.samples: int | None = None
        """PCM samples per channel for the length tag; set it before closing, None writes no tag."""
        self._whole = WholeFile(target)
        try:
            self._file = self._whole.path.open("r+b")
        except BaseException:
            self._whole.discard()
            raise
        try:
            self._file.write(self._given.data)
        except BaseException:
            self.abort()
            raise

    def write(self, units: NDArray[np.uint8]) -> None:
        """Append frames.

        Shape: units [F, C, 212]
        Raises:
            ValueError: shape or dtype is another.
        """
        if units.dtype != np.uint8 or units.shape[1:] != (self.channels, SOUND_UNIT_BYTES):
            expected = f"uint8 [F, {self.channels}, {SOUND_UNIT_BYTES}]"
            raise ValueError(f"units is {units.dtype} {list(units.shape)}, expected {expected}")
        self._file.write(np.ascontiguousarray(units).data)
        self.frames += len(units)

    def close(self) -> None:
        """Complete the header and give the file its name."""
        if self._file.closed:
            return
        try:
            if not self._copied:
                header = AeaHeader.make(self.channels, self.frames * self.channels, self._title, self.samples)
                self._file.seek(0)
                self._file.write(header.data)
            self._file.close()
        except BaseException:
            self.abort()
            raise
        self._whole.commit()

    def abort(self) -> None:
        """Give up: remove what was written so far. After `close` it does nothing."""
        with contextlib.suppress(OSError):  # a full disk may refuse the last flush too
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


def frames_for(samples: int, multiple: int = FRAMES_MULTIPLE) -> int:
    """Count the frames that carry `samples` PCM samples, not negative, through the codec's delay.

    Args:
        samples: PCM samples per channel.
        multiple: round up to a multiple of this many frames, 1 or more.

    Raises:
        ValueError: an argument is below its range.

    Example:
        >>> frames_for(1), frames_for(44100), frames_for(44100, multiple=1)
        (8, 88, 87)
    """
    if samples < 0 or multiple < 1:
        raise ValueError(f"samples = {samples}, multiple = {multiple}, allowed from 0 and from 1 on")
    frames = -(-(samples + CODEC_DELAY) // FRAME_SAMPLES)
    return -(-frames // multiple) * multiple


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or all there are; pipes and sockets give what they have, so ask again."""
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part) if size > 0 else 0
    return b"".join(parts)
