"""Bit fields, most significant bit first: one at a time, and millions at once.

`BitReader` and `BitWriter` read as the format is written down. `place_words` and `gather_words` do the same for
whole files: fields of at most 16 bits span at most 3 bytes, so each is one 24-bit word at a byte position.
"""

from __future__ import annotations

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


class BitWriter:
    """Writes fields one after the other, most significant bit first."""

    def __init__(self) -> None:
        self._value = 0
        self.position = 0

    def write(self, value: int, width: int) -> None:
        """Write `value`, in two's complement if negative, as `width` bits."""
        self._value = self._value << width | value & ((1 << width) - 1)
        self.position += width

    def to_int(self, size: int) -> int:
        """Return everything written so far, filled with zeros to `size` bits, as one number."""
        return self._value << (size - self.position)


def place_words(
    words: NDArray[np.int64], positions: NDArray[np.int64], widths: NDArray[np.int64], n_bytes: int
) -> NDArray[np.uint8]:
    """Write many bit fields, none overlapping another, into zeroed bytes.

    Args:
        words: field values, not negative, below 2 ** widths.
        positions: bit position of each field's first bit, counted over all bytes.
        widths: bits of each field, 0..16 (17 would need a fourth byte).
        n_bytes: length of the result.

    Shape: words, positions, widths [n] -> [n_bytes]
    """
    byte = positions >> 3
    word = words << (24 - (positions & 7) - widths)
    # Fields do not overlap, so adding equals or-ing, and float64 holds every 24-bit sum exactly.
    sums = np.bincount(byte, weights=word, minlength=n_bytes).astype(np.int64)
    out = sums >> 16 & 0xFF
    out[1:] += sums[:-1] >> 8 & 0xFF
    out[2:] += sums[:-2] & 0xFF
    return out.astype(np.uint8)


def gather_words(data: NDArray[np.uint8], positions: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Read many bit fields of 0..16 bits as numbers from 0 up; the inverse of `place_words`.

    Shape: data [n_bytes], positions, widths [n] -> [n]
    """
    padded = np.concatenate([data, np.zeros(2, np.uint8)]).astype(np.int64)
    words = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
    return words[positions >> 3] >> (24 - (positions & 7) - widths) & ((1 << widths) - 1)
