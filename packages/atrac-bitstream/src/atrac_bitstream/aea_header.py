"""The header of an AEA file: 2048 bytes, most of them zero.

    0 magic | 4 title (256 bytes, with the value 8 at byte 210) | 260 u32 count | 264 channels | 1024 length tag

Source: docs/format.md.
"""

from __future__ import annotations

import struct
from typing import Final, final

from atrac_bitstream.errors import AeaError, TruncatedError

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


@final
class AeaHeader:
    """The 2048 bytes before the sound units, and the fields that are known.

    Args:
        data: the header as read; it is kept whole, with parts of unknown meaning.

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
        _check_unit_count(unit_count)
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

    def with_unit_count(self, unit_count: int) -> AeaHeader:
        """Return the same header with another number of sound units. Raises: AeaError, as `make`."""
        _check_unit_count(unit_count)
        data = bytearray(self.data)
        struct.pack_into("<I", data, COUNT_OFFSET, unit_count)
        return AeaHeader(bytes(data))

    @property
    def title(self) -> str:
        """The title up to its first zero byte, in UTF-8, or in Latin-1 if it is not UTF-8."""
        text = self.data[TITLE].split(b"\0", 1)[0]
        mark = MARK_OFFSET - TITLE.start
        if text[mark : mark + 1] == bytes([MARK]):  # it is not part of a title that reaches it
            text = text[:mark]
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


def _check_unit_count(unit_count: int) -> None:
    if not 0 <= unit_count < 1 << 32:
        raise AeaError(f"{unit_count} sound units, allowed 0..{(1 << 32) - 1}")
