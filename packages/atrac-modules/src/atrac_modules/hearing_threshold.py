"""The hearing threshold of the reference codec's allocation.

The curve is Frank's, from Musepack. Source of the numbers: [atracdenc] atrac_psy_common.cpp.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import tables as t

# fmt: off
_FRANK: Final = [
    9669, 9669, 9626, 9512, 9353, 9113, 8882, 8676, 8469, 8243, 7997, 7748, 7492, 7239, 7000, 6762,
    6529, 6302, 6084, 5900, 5717, 5534, 5351, 5167, 5004, 4812, 4638, 4466, 4310, 4173, 4050, 3922,
    3723, 3577, 3451, 3281, 3132, 3036, 2902, 2760, 2658, 2591, 2441, 2301, 2212, 2125, 2018, 1900,
    1770, 1682, 1594, 1512, 1430, 1341, 1260, 1198, 1136, 1057,  998,  943,  887,  846,  744,  712,
     693,  668,  637,  606,  580,  555,  529,  502,  475,  448,  422,  398,  375,  351,  327,  322,
     312,  301,  291,  268,  246,  215,  182,  146,  107,   61,   13,  -35,  -96, -156, -179, -235,
    -295, -350, -401, -421, -446, -499, -532, -535, -513, -476, -431, -313, -179,    8,  203,  403,
     580,  736,  881, 1022, 1154, 1251, 1348, 1421, 1479, 1399, 1285, 1193, 1287, 1519, 1914, 2369,
    3352, 4352, 5352, 6352, 7352, 8352, 9352, 9999, 9999, 9999, 9999, 9999,
]
# fmt: on
"""Hearing threshold in millibel, 40 values per decade from 10 Hz."""


def hearing_threshold() -> NDArray[np.float32]:
    """Return the power below which a BFU with long blocks counts as inaudible [52], float32 as in the reference codec.

    The minimum over the BFU's coefficients of Frank's table - 100 dB - 0.015 f ** 2, f in kHz.
    """
    kilohertz = (np.arange(1, 513, dtype=np.float32) * np.float32(22.05)) / np.float32(512)
    position = 40 * np.log10(0.1 * (1e3 * kilohertz.astype(np.float64)).astype(np.float32).astype(np.float64))
    index = position.astype(np.int64)
    table = np.array(_FRANK, np.float64)
    frank = 0.01 * (table[index] * (1 + index - position) + table[index + 1] * (position - index))
    level = frank.astype(np.float32) - np.float32(100)
    level = (level - (kilohertz * kilohertz) * 0.015).astype(np.float32)
    return np.power(10.0, 0.1 * np.minimum.reduceat(level, t.BFU_OFFSETS[:-1]).astype(np.float64)).astype(np.float32)
