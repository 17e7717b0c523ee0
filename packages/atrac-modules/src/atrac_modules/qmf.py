"""QMF: splits PCM into a low, a mid and a high band, critically sampled.

    pcm ─[ qmf ]→ bands ─transient→ …

Two levels of one 48-tap quadrature mirror filter: the first splits at 11 kHz, the second splits the lower half at
5.5 kHz; meanwhile the high band waits. Source: [AES-3456]; taps and order of
operations: [atracdenc] qmf.h, atrac1_qmf.h.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
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
"""Input samples before the present two that an output pair depends on, in each level."""
HOP: Final = 32
"""Samples that one product makes half bands of, or joins."""
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

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        alternating = (-1.0) ** np.arange(len(QMF_TAPS))
        taps = np.stack([QMF_TAPS, alternating * QMF_TAPS])[:, ::-1]
        self.add_table("matrix", analysis_matrix(torch.from_numpy(taps.copy())))

    @full_precision
    def forward(self, pcm: Tensor) -> Tensor:
        """Split `pcm` into bands."""
        check_pcm(pcm)
        matrix = self.matrix.to(pcm.dtype)
        return split_bands(pcm, lambda x: _split(x, matrix))


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


@final
class NeuralQmf(Qmf):
    """Each level as two filters with free taps, one for either half band.

    That there are two levels of 48 taps, and how long the high band waits, is built in; the 192 taps are learned.

    Example:
        >>> NeuralQmf()(torch.zeros(2, 1024)).shape
        torch.Size([2, 2, 512])
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        taps = len(QMF_TAPS)
        self.first = nn.Parameter(torch.randn(2, taps) / taps**0.5)
        self.second = nn.Parameter(torch.randn(2, taps) / taps**0.5)

    @full_precision
    def forward(self, pcm: Tensor) -> Tensor:
        """Split `pcm` into bands."""
        check_pcm(pcm)
        first, second = (analysis_matrix(taps.to(pcm.dtype)) for taps in (self.first, self.second))
        return split_bands(pcm, lambda x: _split(x, first), lambda x: _split(x, second))


_Split: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


def split_bands(pcm: Tensor, first: _Split, second: _Split | None = None) -> Tensor:
    """Run both levels and delay the high band.

    Args:
        first, second: a level each, [*, T] -> lower and upper [*, T / 2]; the second is as the first if None.

    Shape: pcm [*, T] -> bands [*, F, 512]
    """
    lower, upper = first(pcm)
    high = pad(upper, (HIGH_DELAY, 0))[..., : upper.shape[-1]]
    frames = pcm.shape[-1] // FRAME_SAMPLES
    return torch.cat([band.unflatten(-1, (frames, -1)) for band in (*(second or first)(lower), high)], -1)


def _split(x: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Run one level: [*, T] -> lower and upper half band [*, T / 2]."""
    windows = pad(x, (QMF_HISTORY, 0)).unfold(-1, QMF_HISTORY + HOP, HOP)
    lower, upper = (windows @ matrix).chunk(2, -1)
    return lower.flatten(-2), upper.flatten(-2)


def analysis_matrix(taps: Tensor) -> Tensor:
    """Return one level as a matrix from 46 past and 32 new samples to 16 of each half band.

    With taps w as the reference codec has them, newest sample first, lower[m] = sum_k w[k] x[2 m + 1 - k] and
    upper[m] = sum_k (-1) ** k w[k] x[2 m + 1 - k].

    Args:
        taps: filters of lower and upper half band, oldest sample first.

    Shape: [2, 48] -> [78, 32]; columns lower 16, upper 16
    """
    return torch.cat(list(sliding_matrix(taps, HOP // 2, stride=2)), -1)
