"""QMF: splits PCM into a low, a mid and a high band, critically sampled.

    pcm ─[ qmf ]→ bands ─transient→ …

Two levels of one 48-tap quadrature mirror filter: the first splits at 11 kHz, the second splits the lower half at
5.5 kHz; the high band is delayed to match. Source: [AES-3456]; taps and order of operations: [atracdenc] qmf.h,
atrac1_qmf.h.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import FRAME_SAMPLES
from atrac_modules.sliding import sliding_matrix
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
"""Past input samples that a pair of output samples depends on, in each level."""
HIGH_DELAY: Final = 39
"""Delay of the high band in samples at half the sampling rate. Here and in the inverse together it makes up for the
second level in both directions (46) and for the MDCT's overlap, which lasts longer in low and mid (32)."""
LOW_TAPS: Final = 3 * len(QMF_TAPS) - 2
"""Input samples that one sample of low or mid depends on, through both levels."""
HIGH_TAPS: Final = len(QMF_TAPS) + 2 * HIGH_DELAY
"""Input samples that one sample of high depends on, including the delay."""
HOP: Final = 128
"""Input samples that one matrix product splits."""


class Qmf(Stage):
    """Splits PCM into three bands.

    Shape:  pcm [*, T], T = 512 F -> bands [*, F, 512], low | mid | high
    Dtype:  float32 or float64, kept
    Units:  pcm full scale +-1.0; bands have about the same scale times 4, 4 and 2 (each level's gain is 2)
    Raises: ShapeError: T is no positive multiple of 512.

    Samples before the first count as zero.
    """

    @abstractmethod
    def forward(self, pcm: Tensor) -> Tensor:
        """Split `pcm` into bands."""


@final
class ReferenceQmf(Qmf):
    """Both levels and the delay as one matrix, applied to overlapping windows of the signal.

    Differs: sums in another order than the reference codec, within 4e-6 of it at full scale.

    Example:
        >>> ReferenceQmf()(torch.zeros(2, 1024)).shape
        torch.Size([2, 2, 512])
    """

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_table("matrix", analysis_matrix(*map(torch.from_numpy, analysis_taps())))

    @full_precision
    def forward(self, pcm: Tensor) -> Tensor:
        """Split `pcm` into bands."""
        check_pcm(pcm)
        return split_bands(pcm, self.matrix.to(pcm.dtype))


@final
class NeuralQmf(Qmf):
    """A learned filter for each band, as long as the two levels and the delay together.

    The rates of the bands and the lengths of the filters are built in; the 410 taps are learned.

    Example:
        >>> NeuralQmf()(torch.zeros(2, 1024)).shape
        torch.Size([2, 2, 512])
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.low_mid = nn.Parameter(torch.randn(2, LOW_TAPS) / LOW_TAPS**0.5)
        self.high = nn.Parameter(torch.randn(HIGH_TAPS) / HIGH_TAPS**0.5)

    @full_precision
    def forward(self, pcm: Tensor) -> Tensor:
        """Split `pcm` into bands."""
        check_pcm(pcm)
        return split_bands(pcm, analysis_matrix(self.low_mid.to(pcm.dtype), self.high.to(pcm.dtype)))


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
        lower, upper = self._split(pcm.float())
        high = pad(upper, (HIGH_DELAY, 0))[..., : upper.shape[-1]]
        frames = pcm.shape[-1] // FRAME_SAMPLES
        return torch.cat([torch.unflatten(band, -1, (frames, -1)) for band in (*self._split(lower), high)], -1)

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


def split_bands(pcm: Tensor, matrix: Tensor) -> Tensor:
    """Apply the matrix of `analysis_matrix` to overlapping windows. Shape: pcm [*, T] -> bands [*, F, 512]."""
    windows = pad(pcm, (len(matrix) - HOP, 0)).unfold(-1, len(matrix), HOP)
    pieces = torch.unflatten(windows @ matrix, -2, (-1, FRAME_SAMPLES // HOP))
    bands = torch.split(pieces, [HOP // 4, HOP // 4, HOP // 2], -1)
    return torch.cat([band.flatten(-2) for band in bands], -1)


def analysis_matrix(low_mid: Tensor, high: Tensor) -> Tensor:
    """Return the filters of the bands as one matrix from 138 past and 128 new samples to low 32, mid 32, high 64.

    Args:
        low_mid: taps of low and mid, oldest sample first, to be applied at every fourth sample.
        high: taps of high, oldest sample first, to be applied at every second sample.

    Shape: low_mid [2, 142], high [126] -> [266, 128]
    """
    low, mid = sliding_matrix(low_mid, HOP // 4, stride=4)
    above = sliding_matrix(high, HOP // 2, stride=2)
    return torch.cat([low, mid, pad(above, (0, 0, len(low) - len(above), 0))], -1)


def analysis_taps() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the taps of low and mid [2, 142] and of high [126], oldest sample first.

    With the taps w of one level, of x: lower[m] = sum_k w[k] x[2 m + 1 - k] and
    upper[m] = sum_k (-1) ** k w[k] x[2 m + 1 - k].
    """
    mirrored = (-1.0) ** np.arange(len(QMF_TAPS)) * QMF_TAPS
    low_mid = []
    for second in (QMF_TAPS, mirrored):
        spread = np.zeros(2 * len(second) - 1)
        spread[::2] = second
        low_mid.append(np.convolve(QMF_TAPS, spread)[::-1])
    return np.stack(low_mid), np.concatenate([np.zeros(2 * HIGH_DELAY), mirrored])[::-1].copy()
