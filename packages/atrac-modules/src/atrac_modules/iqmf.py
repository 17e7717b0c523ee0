"""Inverse QMF: joins the three bands to PCM.

    … ─imdct→ bands ─[ iqmf ]→ pcm

The mirror of `qmf.py`: low and mid are joined at a quarter of the rate, the result and the delayed high band at half
of it. Source: [AES-3456]; order of operations: [atracdenc] qmf.h, atrac1_qmf.h.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from atrac_bitstream.tables import BANDS, FRAME_SAMPLES
from atrac_modules.qmf import HIGH_DELAY, QMF_HISTORY, QMF_TAPS
from atrac_modules.stage import Stage, check_shape, full_precision

HALF_HISTORY: Final = QMF_HISTORY // 2
"""Past samples of each half band that an output pair depends on."""


class Iqmf(Stage):
    """Joins three bands to PCM.

    Shape:  bands [*, F, 512], low | mid | high -> pcm [*, T], T = 512 F
    Dtype:  float32 or float64, kept
    Units:  pcm full scale +-1.0, not clipped
    Raises: ShapeError: the last dimensions are not [F, 512].

    The samples before the first count as zero. The high band waits less than the second level takes, because the MDCT
    delays every band by 32 of its own samples, low and mid thereby by twice the time: QMF, MDCT and their inverses
    together delay all bands alike, by 266 samples.
    """

    @abstractmethod
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""


@final
class ReferenceIqmf(Iqmf):
    """Each level as one matrix, applied to overlapping windows of the half bands.

    Differs: sums in another order than the reference codec.

    Example:
        >>> ReferenceIqmf()(torch.zeros(2, 3, 512)).shape
        torch.Size([2, 1536])
    """

    hop: Final = 32
    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_table("matrix", synthesis_matrix(self.hop))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        return join_bands(bands, self._join)

    def _join(self, lower: Tensor, upper: Tensor) -> Tensor:
        step = self.hop // 2
        windows = [pad(x, (HALF_HISTORY, 0)).unfold(-1, HALF_HISTORY + step, step) for x in (lower, upper)]
        return (torch.cat(windows, -1) @ self.matrix.to(lower.dtype)).flatten(-2)


@final
class BitExactIqmf(Iqmf):
    """The reference codec's order of float32 operations: two accumulators, taps ascending, no fused multiply-add.

    No gradient. Dtype: float32.
    """

    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", torch.tensor(QMF_TAPS, dtype=torch.float32), persistent=False)

    @torch.no_grad()
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        return join_bands(bands.float(), self._join)

    def _join(self, lower: Tensor, upper: Tensor) -> Tensor:
        even = pad(lower + upper, (HALF_HISTORY, 0))
        odd = pad(lower - upper, (HALF_HISTORY, 0))
        n = lower.shape[-1]
        first = torch.zeros_like(lower)
        second = torch.zeros_like(lower)
        for i in range(len(QMF_TAPS) // 2):
            first += odd[..., i : i + n] * self.taps[2 * i + 1]
            second += even[..., i : i + n] * self.taps[2 * i]
        return torch.stack([first, second], -1).flatten(-2)


def join_bands(bands: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Delay the high band and run both levels; `join` is one level, two half bands [*, T / 2] -> [*, T].

    Shape: bands [*, F, 512] -> pcm [*, T]
    """
    low, mid, high = (bands[..., band].flatten(-2) for band in BANDS)
    return join(join(low, mid), pad(high, (HIGH_DELAY, 0))[..., : high.shape[-1]])


def synthesis_matrix(hop: int) -> NDArray[np.float64]:
    """Return one level as a matrix from 23 past and hop / 2 new samples of each half band to `hop` joined ones.

    With y = lower + upper, lower - upper, alternating: even outputs 2 m are sum_i taps[2 i + 1] y[2 (m + i) - 45],
    odd ones sum_i taps[2 i] y[2 (m + i) - 46].

    Shape: [46 + hop, hop]; rows lower 23 + hop / 2, upper 23 + hop / 2
    """
    half = len(QMF_TAPS) // 2
    matrix = np.zeros((QMF_HISTORY + hop, hop))
    lower, upper = np.split(matrix, 2)
    for m in range(hop // 2):
        window = slice(m, m + half)
        lower[window, 2 * m], upper[window, 2 * m] = QMF_TAPS[1::2], -QMF_TAPS[1::2]
        lower[window, 2 * m + 1], upper[window, 2 * m + 1] = QMF_TAPS[::2], QMF_TAPS[::2]
    return matrix
