"""Inverse QMF: joins the three bands to PCM.

    … ─imdct→ bands ─[ iqmf ]→ pcm

The mirror of `qmf.py`: low and mid are joined at a quarter of the rate, the result and the delayed high band at half
of it. Source: [AES-3456]; order of operations: [atracdenc] qmf.h, atrac1_qmf.h.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import BANDS, FRAME_SAMPLES
from atrac_modules.qmf import HIGH_DELAY, HOP, QMF_HISTORY, QMF_TAPS
from atrac_modules.sliding import sliding_matrix
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

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        odd, even = QMF_TAPS[1::2], QMF_TAPS[::2]
        taps = np.stack([odd, -odd, even, even]).reshape(2, 2, -1)
        self.add_table("matrix", synthesis_matrix(torch.from_numpy(taps)))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        matrix = self.matrix.to(bands.dtype)
        return join_bands(bands, lambda lower, upper: _join(lower, upper, matrix))


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


@final
class NeuralIqmf(Iqmf):
    """Each level as filters with free taps: two from either half band, for even and odd samples.

    That there are two levels of 2 x 24 taps each way, and how long the high band waits, is built in; the 192 taps are
    learned.

    Example:
        >>> NeuralIqmf()(torch.zeros(2, 3, 512)).shape
        torch.Size([2, 1536])
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        taps = len(QMF_TAPS)
        self.first = nn.Parameter(torch.randn(2, 2, taps // 2) / taps**0.5)
        self.second = nn.Parameter(torch.randn(2, 2, taps // 2) / taps**0.5)

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        first, second = (synthesis_matrix(taps.to(bands.dtype)) for taps in (self.first, self.second))
        return join_bands(
            bands, lambda lower, upper: _join(lower, upper, first), lambda lower, upper: _join(lower, upper, second)
        )


_Join: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def join_bands(bands: Tensor, first: _Join, second: _Join | None = None) -> Tensor:
    """Delay the high band and run both levels.

    Args:
        first, second: a level each, two half bands [*, T / 2] -> [*, T]: the first at 22 kHz, as it comes first in the
            analysis, the second at 11 kHz; the second is as the first if None.

    Shape: bands [*, F, 512] -> pcm [*, T]
    """
    low, mid, high = (bands[..., band].flatten(-2) for band in BANDS)
    return first((second or first)(low, mid), pad(high, (HIGH_DELAY, 0))[..., : high.shape[-1]])


def _join(lower: Tensor, upper: Tensor, matrix: Tensor) -> Tensor:
    """Run one level: two half bands [*, T / 2] -> [*, T]."""
    step = HOP // 2
    windows = [pad(x, (HALF_HISTORY, 0)).unfold(-1, HALF_HISTORY + step, step) for x in (lower, upper)]
    return (torch.cat(windows, -1) @ matrix).flatten(-2)


def synthesis_matrix(taps: Tensor) -> Tensor:
    """Return one level as a matrix from 23 past and 16 new samples of each half band to 32 joined ones.

    With taps w as the reference codec has them and y = lower + upper, lower - upper, alternating, even samples 2 m are
    sum_i w[2 i + 1] y[2 (m + i) - 45], odd ones sum_i w[2 i] y[2 (m + i) - 46].

    Args:
        taps: filters from lower and upper half band for even samples, then for odd ones, oldest sample first.

    Shape: [2, 2, 24] -> [78, 32]; rows lower 39, upper 39
    """
    even, odd = sliding_matrix(taps, HOP // 2).flatten(1, 2)
    return torch.stack([even, odd], -1).flatten(1)
