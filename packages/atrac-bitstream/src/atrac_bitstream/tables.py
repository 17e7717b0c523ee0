"""Layout of an ATRAC1 sound unit: sizes, field widths, BFUs and scale factors.

Everything needed to read or write the 212 bytes, and nothing else. Signal processing tables (filter taps, windows)
are in atrac-modules.

Source: docs/format.md. The structure is that of [AES-3456]; the numbers are those existing decoders agree on,
confirmed by unpacking the 2,166 golden sound units.
"""

from __future__ import annotations

from typing import Final

import numpy as np

SAMPLE_RATE: Final = 44_100
"""Hz."""
FRAME_SAMPLES: Final = 512
"""PCM samples of one channel that a sound unit stands for."""
SOUND_UNIT_BYTES: Final = 212
SOUND_UNIT_BITS: Final = 8 * SOUND_UNIT_BYTES

# Bands -------------------------------------------------------------------------------------------------------

N_BANDS: Final = 3
LOW: Final = slice(0, 128)
MID: Final = slice(128, 256)
HIGH: Final = slice(256, 512)
BANDS: Final = (LOW, MID, HIGH)
BAND_SIZES: Final = (128, 128, 256)
SHORT_SIZE: Final = 32
"""Coefficients in a short MDCT block, in every band."""
BSM_SHORT: Final = (2, 2, 3)
"""Block size mode of each band when it is split: log2 of its number of short blocks. A long band has 0."""
BSM_STORED_LONG: Final = (2, 2, 3)
"""A block size mode x is stored as 2 - x, 2 - x, 3 - x."""

# Field widths in bits, in the order of the fields -------------------------------------------------------------

BSM_BITS: Final = 2
BSM_RESERVED_BITS: Final = 2
N_BFU_BITS: Final = 3
N_BFU_RESERVED_BITS: Final = 5
IDWL_BITS: Final = 4
IDSF_BITS: Final = 6
HEADER_BITS: Final = N_BANDS * BSM_BITS + BSM_RESERVED_BITS + N_BFU_BITS + N_BFU_RESERVED_BITS
"""16: everything before the first IDWL."""
MIRROR_BITS: Final = 16
"""The last two bytes, which readers treat as copies of the second and the first: never values."""
UNUSED_BITS: Final = 8
"""Further bits before them that encoders keep zero."""

# Block floating units -----------------------------------------------------------------------------------------

N_BFU_MAX: Final = 52
BFU_AMOUNTS: Final = (20, 28, 32, 36, 40, 44, 48, 52)
"""Numbers of BFUs that a sound unit can carry; stored as an index into this table."""

BFU_SIZES: Final = np.repeat([8, 4, 8, 6, 6, 7, 9, 10, 12, 20], [4, 4, 4, 8, 4, 4, 4, 4, 8, 8])
"""Coefficients in each BFU [52]."""
BFU_BANDS: Final = np.repeat([0, 1, 2], [20, 16, 16])
"""Band of each BFU [52]: 0 low, 1 mid, 2 high."""
BFU_OFFSETS: Final = np.concatenate([[0], np.cumsum(BFU_SIZES)])
"""Where each BFU begins in bitstream order, and the end [53]; with long blocks also its first coefficient."""
# fmt: off
BFU_STARTS_SHORT: Final = np.array([
      0,  32,  64,  96,   8,  40,  72, 104,  12,  44,  76, 108,  20,  52,  84, 116,  26,  58,  90, 122,
    128, 160, 192, 224, 134, 166, 198, 230, 141, 173, 205, 237, 150, 182, 214, 246,
    256, 288, 320, 352, 384, 416, 448, 480, 268, 300, 332, 364, 396, 428, 460, 492,
])
# fmt: on
"""First coefficient of each BFU when its band is split into short blocks [52]."""

BFU_OF_VALUE: Final = np.repeat(np.arange(N_BFU_MAX), BFU_SIZES)
"""BFU of each value in bitstream order [512]."""
BAND_OF_VALUE: Final = BFU_BANDS[BFU_OF_VALUE]
"""Band of each value [512], the same in bitstream and in spectrum order."""
SHORT_ORDER: Final = BFU_STARTS_SHORT[BFU_OF_VALUE] + np.arange(512) - BFU_OFFSETS[BFU_OF_VALUE]
"""Spectrum index of each value in bitstream order, short blocks [512]. With long blocks it is the identity."""

# Values -------------------------------------------------------------------------------------------------------

IDWL_MAX: Final = 15
IDSF_MAX: Final = 63
WORD_LENGTHS: Final = np.array([0, *range(2, 17)])
"""Bits of a quantized value for each IDWL [16]."""
LEVELS: Final = np.array([1, *(2 ** (w - 1) - 1 for w in range(2, 17))])
"""Largest quantized magnitude for each IDWL [16], and so the steps in one scale factor; 1 at 0 bits, where the
only value is 0, so that it can be divided by."""
SCALE_FACTORS: Final = 2.0 ** (np.arange(64) / 3 - 21)
"""Scale factor for each IDSF [64], float64."""


def value_bits(n_bfu: int) -> int:
    """Count the bits for quantized values that an encoder may fill, with n_bfu BFUs carried.

    1696 - 16 header - 10 n_bfu - 24 at the end that encoders keep zero.

    Args:
        n_bfu: one of `BFU_AMOUNTS`.

    Units: bits per sound unit
    Source: docs/format.md, "Budget"; measured on every file that atracdenc wrote.

    Example:
        >>> value_bits(52), value_bits(20)
        (1136, 1456)
    """
    return SOUND_UNIT_BITS - HEADER_BITS - (IDWL_BITS + IDSF_BITS) * n_bfu - UNUSED_BITS - MIRROR_BITS


def readable_value_bits(n_bfu: int) -> int:
    """Count the bits for quantized values that a reader accepts: `value_bits` and the 8 unused ones.

    Source: FFmpeg refuses a sound unit whose values reach into the last two bytes.

    Example:
        >>> readable_value_bits(52)
        1144
    """
    return value_bits(n_bfu) + UNUSED_BITS
