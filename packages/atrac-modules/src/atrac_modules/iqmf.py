"""Inverse QMF: joins the three bands to PCM.

    … ─imdct→ bands ─[ iqmf ]→ pcm

The mirror of `qmf.py`: low and mid are joined at a quarter of the rate, the result and the delayed high band at half
of it. Source: [AES-3456] sec. 3; order of operations: [atracdenc] qmf.h, atrac1_qmf.h.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final, final

import numpy as np
import torch
from atrac_bitstream.tables import BANDS, FRAME_SAMPLES
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from atrac_modules.qmf import HIGH_DELAY, QMF_HISTORY, QMF_TAPS
from atrac_modules.stage import Stage, check_shape, full_precision

_HALF_HISTORY: Final = QMF_HISTORY // 2
_QUARTER_HISTORY: Final = _HALF_HISTORY
_BAND_HISTORY: Final = (40, 40, 80)
"""Past samples of each band that a hop is computed from: enough for both levels, a multiple of the band's step."""


class Iqmf(Stage):
    """Joins three bands to PCM.

    Shape:  bands [*, F, 512], low | mid | high -> pcm [*, T], T = 512 F
    Dtype:  float32 or float64, kept
    Units:  pcm full scale +-1.0, not clipped
    Raises: ShapeError: the last dimensions are not [F, 512].

    The samples before the first count as zero. Together with a QMF the signal is delayed by 234 samples.
    """

    @abstractmethod
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""


@final
class ReferenceIqmf(Iqmf):
    """Both levels as one matrix, applied to overlapping windows of the bands.

    Differs: sums in another order than the reference codec.

    Example:
        >>> ReferenceIqmf()(torch.zeros(2, 3, 512)).shape
        torch.Size([2, 1536])
    """

    hop: Final = 128
    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_table("matrix", synthesis_matrix(self.hop))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Join `bands` to PCM."""
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        windows = []
        for band, history in zip(BANDS, _BAND_HISTORY, strict=True):
            step = (band.stop - band.start) * self.hop // FRAME_SAMPLES
            samples = pad(bands[..., band].flatten(-2), (history, 0))
            windows.append(samples.unfold(-1, history + step, step))
        return (torch.cat(windows, -1) @ self.matrix.to(bands.dtype)).flatten(-2)


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
        low, mid, high = (bands[..., band].flatten(-2).float() for band in BANDS)
        lower = self._join(low, mid)
        return self._join(lower, pad(high, (HIGH_DELAY, 0))[..., : high.shape[-1]])

    def _join(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Run one level: two half bands [*, T / 2] -> [*, T]."""
        even = pad(lower + upper, (_HALF_HISTORY, 0))
        odd = pad(lower - upper, (_HALF_HISTORY, 0))
        n = lower.shape[-1]
        first = torch.zeros_like(lower)
        second = torch.zeros_like(lower)
        for i in range(len(QMF_TAPS) // 2):
            first += odd[..., i : i + n] * self.taps[2 * i + 1]
            second += even[..., i : i + n] * self.taps[2 * i]
        return torch.stack([first, second], -1).flatten(-2)


def _level(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join two half bands [T / 2, columns] to [T, columns], the history before them zero."""
    merged = np.stack([lower + upper, lower - upper], 1).reshape(-1, lower.shape[1])
    padded = np.concatenate([np.zeros((QMF_HISTORY, lower.shape[1])), merged])
    n = len(lower)
    out = np.zeros_like(merged)
    for i in range(0, len(QMF_TAPS), 2):
        out[1::2] += padded[i::2][:n] * QMF_TAPS[i]
        out[0::2] += padded[i + 1 :: 2][:n] * QMF_TAPS[i + 1]
    return out


def synthesis_matrix(hop: int) -> NDArray[np.float64]:
    """Return both levels as one matrix from past and new band samples to `hop` PCM samples.

    Shape: [160 + hop, hop]; rows low 40 + hop / 4, mid 40 + hop / 4, high 80 + hop / 2
    """
    sizes = [history + hop * n // FRAME_SAMPLES for history, n in zip(_BAND_HISTORY, (128, 128, 256), strict=True)]
    low, mid, high = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1])
    delayed = np.concatenate([np.zeros((HIGH_DELAY, high.shape[1])), high])[: len(high)]
    return _level(_level(low, mid), delayed)[-hop:].T
