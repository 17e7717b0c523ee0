"""QMF: splits PCM into a low, a mid and a high band, critically sampled.

    pcm ─[ qmf ]→ bands ─transient→ …

Two levels of one 48-tap quadrature mirror filter: the first splits at 11 kHz, the second splits the lower half at
5.5 kHz; meanwhile the high band waits. Source: [AES-3456]; taps and order of
operations: [atracdenc] qmf.h, atrac1_qmf.h.
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

from atrac_bitstream.tables import FRAME_SAMPLES
from atrac_modules.stage import Stage, check_pcm, full_precision

_HALF_TAPS: Final = [
    -0.00001461907, -0.00009205479, -0.000056157569, 0.00030117269, 0.0002422519, -0.00085293897,
    -0.0005205574, 0.0020340169, 0.00078333891, -0.0042153862, -0.00075614988, 0.0078402944,
    -0.000061169922, -0.01344162, 0.0024626821, 0.021736089, -0.007801671, -0.034090221,
    0.01880949, 0.054326009, -0.043596379, -0.099384367, 0.13207909, 0.46424159,
]  # fmt: skip
QMF_TAPS: Final = 2 * np.array(_HALF_TAPS + _HALF_TAPS[::-1])
"""Low-pass of the quadrature mirror filter [48]; their sum is 1.99989."""
QMF_HISTORY: Final = len(QMF_TAPS) - 2
"""Input samples before the present two that an output pair depends on, in each level."""
HIGH_DELAY: Final = 39
"""Samples that the high band is delayed by, at half the sampling rate: here and in the inverse together what the second
level takes both ways (46) and the MDCT's overlap takes more in low and mid than in high (32)."""


class Qmf(Stage):
    """Splits PCM into three bands.

    Shape:  pcm [*, T], T = 512 F -> bands [*, F, 512], low | mid | high
    Dtype:  float32 or float64, kept
    Units:  pcm full scale +-1.0; bands have about the same scale times 4, 4 and 2 (each level's gain is 2)
    Raises: ShapeError: T is no positive multiple of 512.

    The samples before the first count as zero.
    """

    @abstractmethod
    def forward(self, pcm: Tensor) -> Tensor:
        """Split `pcm` into bands."""


@final
class ReferenceQmf(Qmf):
    """Each level as one matrix, applied to overlapping windows of the signal.

    Differs: sums in another order than the reference codec, within 4e-6 of it at full scale.

    Example:
        >>> ReferenceQmf()(torch.zeros(2, 1024)).shape
        torch.Size([2, 2, 512])
    """

    hop: Final = 32
    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_table("matrix", analysis_matrix(self.hop))

    @full_precision
    def forward(self, pcm: Tensor) -> Tensor:
        """Split `pcm` into bands."""
        check_pcm(pcm)
        return split_bands(pcm, self._split)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        windows = pad(x, (QMF_HISTORY, 0)).unfold(-1, QMF_HISTORY + self.hop, self.hop)
        lower, upper = (windows @ self.matrix.to(x.dtype)).chunk(2, -1)
        return lower.flatten(-2), upper.flatten(-2)


@final
class BitExactQmf(Qmf):
    """The reference codec's order of float32 operations: two accumulators, taps ascending, no fused multiply-add.

    No gradient. Dtype: float32.
    """

    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", torch.tensor(QMF_TAPS, dtype=torch.float32), persistent=False)

    @torch.no_grad()
    def forward(self, pcm: Tensor) -> Tensor:
        """Split `pcm` into bands."""
        check_pcm(pcm)
        return split_bands(pcm.float(), self._split)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run one level: [*, T] -> lower and upper half band [*, T / 2]."""
        padded = pad(x, (QMF_HISTORY, 0))
        odd, even = padded[..., 1::2].contiguous(), padded[..., 0::2].contiguous()
        n = x.shape[-1] // 2
        first = x.new_zeros(*x.shape[:-1], n)
        second = torch.zeros_like(first)
        for i in range(len(QMF_TAPS) // 2):
            start = QMF_HISTORY // 2 - i
            first += odd[..., start : start + n] * self.taps[2 * i]
            second += even[..., start : start + n] * self.taps[2 * i + 1]
        return first + second, first - second


def split_bands(pcm: Tensor, split: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Run both levels and delay the high band; `split` is one level, [*, T] -> lower and upper [*, T / 2].

    Shape: pcm [*, T] -> bands [*, F, 512]
    """
    lower, upper = split(pcm)
    high = pad(upper, (HIGH_DELAY, 0))[..., : upper.shape[-1]]
    frames = pcm.shape[-1] // FRAME_SAMPLES
    return torch.cat([band.unflatten(-1, (frames, -1)) for band in (*split(lower), high)], -1)


def analysis_matrix(hop: int) -> NDArray[np.float64]:
    """Return one level as a matrix from 46 past and `hop` new samples to half as many of each half band.

    lower[m] = sum_k taps[k] x[2 m + 1 - k], upper[m] = sum_k (-1) ** k taps[k] x[2 m + 1 - k]

    Shape: [46 + hop, hop]; columns lower hop / 2, upper hop / 2
    """
    matrix = np.zeros((QMF_HISTORY + hop, hop))
    alternating = (-1.0) ** np.arange(len(QMF_TAPS))
    for m in range(hop // 2):
        window = slice(2 * m, 2 * m + len(QMF_TAPS))
        matrix[window, m] = QMF_TAPS[::-1]
        matrix[window, hop // 2 + m] = (alternating * QMF_TAPS)[::-1]
    return matrix
