"""Inverse QMF: joins the three bands to PCM.

    … ─imdct→ bands ─[ iqmf ]→ pcm

The inverse of `qmf.py`: low and mid are joined first, then the result and the delayed high band.
Source: [AES-3456]; order of operations: [atracdenc] qmf.h, atrac1_qmf.h.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import BANDS
from atrac_modules.qmf import HIGH_DELAY, HOP, QMF_HISTORY, QMF_TAPS
from atrac_modules.sliding import sliding_matrix
from atrac_modules.stage import Stage, check_shapes, full_precision

HALF_HISTORY: Final = QMF_HISTORY // 2
"""Past samples of each half band that a pair of output samples depends on, in each level."""
LOW_TAPS: Final = 1 + HALF_HISTORY + (HALF_HISTORY + 1) // 2
"""Samples of low or mid that one output sample depends on, through both levels."""
HIGH_TAPS: Final = 1 + HALF_HISTORY + HIGH_DELAY
"""Samples of high that one output sample depends on, including the delay."""


class Iqmf(Stage):
    """Joins three bands to PCM.

    Shape:  bands [*, F, 512], low | mid | high -> pcm [*, T], T = 512 F
    Dtype:  float32 or float64, kept
    Units:  pcm full scale +-1.0, not clipped
    Raises: ShapeError: the last dimensions are not [F, 512].

    Samples before the first count as zero. The high band is delayed by less than the second level takes, because the
    MDCT delays every band by 32 of its own samples, which last twice as long in low and mid. QMF, MDCT and their
    inverses together delay all bands by 266 samples.
    """

    @abstractmethod
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""


@final
class ReferenceIqmf(Iqmf):
    """Both levels and the delay as one matrix, applied to overlapping windows of the bands.

    Differs: sums in another order than the reference codec.

    Example:
        >>> ReferenceIqmf()(torch.zeros(2, 3, 512)).shape
        torch.Size([2, 1536])
    """

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_table("matrix", synthesis_matrix(*map(torch.from_numpy, synthesis_taps())))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""
        check_shapes(bands=bands)
        return join_bands(bands, self.matrix.to(bands.dtype))


@final
class NeuralIqmf(Iqmf):
    """Learned filters from each band to each of the four (low, mid) or two (high) output samples per band sample.

    The rates of the bands and the lengths of the filters are built in; the 414 taps are learned.

    Example:
        >>> NeuralIqmf()(torch.zeros(2, 3, 512)).shape
        torch.Size([2, 1536])
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.low_mid = nn.Parameter(torch.randn(2, 4, LOW_TAPS) / LOW_TAPS**0.5)
        self.high = nn.Parameter(torch.randn(2, HIGH_TAPS) / HIGH_TAPS**0.5)

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""
        check_shapes(bands=bands)
        return join_bands(bands, synthesis_matrix(self.low_mid.to(bands.dtype), self.high.to(bands.dtype)))


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
        check_shapes(bands=bands)
        low, mid, high = (bands[..., band].float().flatten(-2) for band in BANDS)
        return self._join(self._join(low, mid), pad(high, (HIGH_DELAY, 0))[..., : high.shape[-1]])

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


def join_bands(bands: Tensor, matrix: Tensor) -> Tensor:
    """Apply the matrix of `synthesis_matrix` to overlapping windows. Shape: bands [*, F, 512] -> pcm [*, T]."""
    windows = []
    for own, taps, step in zip(BANDS, (LOW_TAPS, LOW_TAPS, HIGH_TAPS), (HOP // 4, HOP // 4, HOP // 2), strict=True):
        windows.append(pad(bands[..., own].flatten(-2), (taps - 1, 0)).unfold(-1, taps - 1 + step, step))
    return (torch.cat(windows, -1) @ matrix).flatten(-2)


def synthesis_matrix(low_mid: Tensor, high: Tensor) -> Tensor:
    """Return the filters as one matrix from past and 32, 32 and 64 new samples of the bands to 128 joined ones.

    Args:
        low_mid: taps from low and mid to each of four samples, oldest sample first.
        high: taps from high to each of two samples, oldest sample first.

    Shape: low_mid [2, 4, 36], high [2, 63] -> [67 + 67 + 126, 128]
    """
    parts = [(low_mid[0], HOP // 4), (low_mid[1], HOP // 4), (high, HOP // 2)]
    return torch.cat([sliding_matrix(taps, steps).permute(1, 2, 0).flatten(1) for taps, steps in parts])


def synthesis_taps() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the taps from low and mid to four samples [2, 4, 36], and from high to two [2, 63], oldest sample first.

    With the taps w of one level and y = lower + upper, lower - upper, alternating: even samples 2 m are
    sum_i w[2 i + 1] y[2 (m + i) - 45], odd ones sum_i w[2 i] y[2 (m + i) - 46].
    """
    even, odd = QMF_TAPS[1::2], QMF_TAPS[::2]
    level = np.array([[even, odd], [-even, odd]])  # half band, sample, tap
    low_mid = np.zeros((2, 4, LOW_TAPS))
    for sample in range(4):
        for i, outer in enumerate(level[0, sample % 2]):
            # The sample of the lower half band, counted from twice the first of the taps on.
            m, inner = divmod(sample // 2 + i + 1, 2)
            low_mid[:, sample, m : m + len(even)] += outer * level[:, inner]
    return low_mid, np.pad(level[1], ((0, 0), (0, HIGH_DELAY)))
