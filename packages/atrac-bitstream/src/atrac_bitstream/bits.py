"""Bit fields, most significant bit first: one at a time, and millions at once.

`BitReader` and `bit_text` follow the format as it is written down. `place_words` and `gather_words` do the same for
whole files: fields of at most 16 bits span at most 3 bytes, so each is one 24-bit word at a byte position.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class BitReader:
    """Reads unsigned and signed fields from bytes, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._size = 8 * len(data)
        self.position = 0

    def unsigned(self, width: int) -> int:
        """Read `width` bits as a number from 0 up."""
        self.position += width
        return (self._value >> (self._size - self.position)) & ((1 << width) - 1)

    def signed(self, width: int) -> int:
        """Read `width` bits as a two's complement number."""
        value = self.unsigned(width)
        return value - (1 << width) if value >> (width - 1) else value


def bit_text(fields: Iterable[tuple[int, int]], size: int) -> str:
    """Write fields of value and width one after the other as 0 and 1, filled with zeros to `size` bits.

    A negative value is written in two's complement.

    Example:
        >>> bit_text([(5, 3), (-1, 2)], 8)
        '10111000'
    """
    return "".join(f"{value & (1 << width) - 1:0{width}b}" for value, width in fields if width).ljust(size, "0")


def place_words(
    words: NDArray[np.int32], positions: NDArray[np.int32], widths: NDArray[np.int32], n_bytes: int
) -> NDArray[np.uint8]:
    """Write many bit fields, none overlapping another, into zeroed bytes.

    Args:
        words: field values, not negative, below 2 ** widths.
        positions: bit position of each field's first bit, counted over all bytes.
        widths: bits of each field, 0..16 (17 would need a fourth byte).
        n_bytes: length of the result.

    Shape: words, positions, widths [n] -> [n_bytes]
    """
    word = words << (24 - (positions & 7) - widths)
    sums = np.zeros(n_bytes, np.int32)
    np.add.at(sums, positions >> 3, word)  # fields do not overlap, so adding equals or-ing
    out = sums >> 16
    out[1:] |= sums[:-1] >> 8 & 0xFF
    out[2:] |= sums[:-2] & 0xFF
    return out.astype(np.uint8)


def words_at_bytes(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return, for each byte, the 32 bits that begin with it, zeros after the end. Shape: [n_bytes] -> [n_bytes]."""
    padded = np.concatenate([data, np.zeros(3, np.uint8)])
    return np.ndarray(data.shape, ">u4", padded, strides=(1,)).astype(np.uint32)


def gather_words(
    words: NDArray[np.uint32], positions: NDArray[np.int32], widths: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Read many bit fields of 0..16 bits as two's complement; the inverse of `place_words`.

    Args:
        words: `words_at_bytes` of the data.
        positions: bit position of each field's first bit, counted over all bytes.
        widths: bits of each field, 0..16; a field of 0 bits reads 0.

    Shape: words [n_bytes], positions, widths [n] -> [n]
    """
    aligned = (words[positions >> 3] << (positions & 7).astype(np.uint32)).view(np.int32)
    values: NDArray[np.int32] = (aligned >> np.minimum(32 - widths, 31)) * (widths > 0)
    return values
