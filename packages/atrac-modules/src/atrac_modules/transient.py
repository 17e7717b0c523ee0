"""Transient detection: decides for each band and frame between one long MDCT block and several short ones.

    … ─qmf→ bands ─[ transient ]→ bsm;  bands, bsm ─mdct→ …

The level of every 16 samples of the high-passed band is measured; a frame whose level jumps is split. The stages that
compare the cost of both kinds of blocks are in `block_choice.py`. Source: [atracdenc] transient_detector.cpp; the
format leaves the decision to the encoder.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import BANDS, BSM_SHORT, FRAME_SAMPLES, N_BANDS
from atrac_modules.ordered_float import log10f, running_sum, sqrt32
from atrac_modules.sliding import sliding_matrix
from atrac_modules.stage import Stage, check_shapes, full_precision
from atrac_modules.straight_through import hard_forward_soft_backward

BLOCK: Final = 16
"""Band samples over which one level is measured."""
RISE: Final = 16.0
"""Rise of the level, in dB, above which a frame has short blocks."""
FALL: Final = 20.0
"""Fall of the level, likewise. As in the reference codec, these dB are 19 log10(rms)."""
_SILENCE: Final = 1e-20
"""Least power before a logarithm."""
_HISTORY: Final = 20
_TAPS: Final = [
    -8.65163e-18, -0.00851586, -6.74764e-18, 0.0209036, -3.36639e-17,
    -0.0438162, -1.54175e-17, 0.0931738, -5.52212e-17, -0.313819,
]  # fmt: skip
"""First half of the high-pass: tap j belongs to samples j and 21 - j of 22, and sample 10 has 0.5."""


class Transient(Stage):
    """Decides the block size modes.

    Shape:  bands [*, F, 512] -> bsm [*, F, 3]
    Dtype:  that of bands, whole numbers: 0 long; 2, 2, 3 short
    Raises: ShapeError: the last dimensions are not [F, 512].

    The level before the first frame counts as 0, as at the start of a recording, so that the decision on frame 0 means
    little; give a frame of the same recording before the first one that is needed.
    """

    @abstractmethod
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""


@final
class ReferenceTransient(Transient):
    """The reference codec's detector with its filter as one matrix.

    Backward, the step from long to short is a logistic function of the largest excess of a level change over its
    threshold in the frame: bsm = mode of short blocks x sigmoid(excess / width), excess = rise - 16 dB or fall - 20 dB.

    Args:
        width: width of the logistic function in dB.

    Example:
        >>> click = torch.zeros(1, 4, 512)
        >>> click[0, 2, 300] = 1.0
        >>> ReferenceTransient()(click)[0, :, 2].tolist()
        [3.0, 0.0, 3.0, 0.0]
    """

    matrix: Tensor
    signs: Tensor
    modes: Tensor

    def __init__(self, width: float = 4.0) -> None:
        super().__init__()
        self.width: Final = width
        self.add_table("matrix", high_pass_matrix())
        sample = np.arange(FRAME_SAMPLES)
        self.add_table("signs", np.where((sample % 2 == 0) & (sample >= BANDS[1].start), -1.0, 1.0))
        self.add_table("modes", np.array(BSM_SHORT, np.float64))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        check_shapes(bands=bands)
        flipped = bands * self.signs.to(bands.dtype)
        return torch.stack([self._decide(flipped[..., band]) * mode for band, mode in zip(BANDS, self.modes)], -1)

    def _decide(self, band: Tensor) -> Tensor:
        """Return 1 for short and 0 for long, [*, F, n] -> [*, F]."""
        windows = pad(band.flatten(-2), (_HISTORY, 0)).unfold(-1, _HISTORY + BLOCK, BLOCK)
        power = (windows @ self.matrix.to(band.dtype)).square().mean(-1)
        hard = (_excess(9.5 * power.log10(), band.shape[-2]) > 0).any(-1).to(band.dtype)
        if not band.requires_grad:
            return hard
        # For the slope only: silence at a finite level keeps every difference finite.
        excess = _excess(9.5 * power.clamp_min(_SILENCE).log10(), band.shape[-2]).amax(-1)
        return hard_forward_soft_backward(hard, torch.sigmoid(excess / self.width))


@final
class NeuralTransient(Transient):
    """A detector with learned filters and thresholds: the level is the power of the filtered band over 16 samples.

        short where max over the frame of max(change - rise, -change - fall) > 0, change in dB

    Blocks of 16 samples and the comparison with the level before are built in; filters, thresholds and the steepness of
    the slope are learned, 261 numbers. The powers of several filters are added, because training a single filter gets
    stuck at the right magnitude response with a wrong phase.

    Args:
        filters: number of filters for each band.
        taps: their length.

    Example:
        >>> NeuralTransient()(torch.zeros(2, 3, 512)).shape
        torch.Size([2, 3, 3])
    """

    modes: Tensor

    def __init__(self, filters: int = 4, taps: int = 21) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"filters": filters, "taps": taps}
        self.filters = nn.Parameter(torch.randn(N_BANDS, filters, taps) / taps**0.5)
        self.rise = nn.Parameter(1 + 0.1 * torch.randn(N_BANDS))
        self.fall = nn.Parameter(1 + 0.1 * torch.randn(N_BANDS))
        """Thresholds in units of 10 dB."""
        self.steepness = nn.Parameter(torch.full((N_BANDS,), -2.0))
        """Natural logarithm of the slope's steepness, per dB."""
        self.add_table("modes", np.array(BSM_SHORT, np.float64))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        excess = torch.stack([beyond.amax(-1) for beyond in self.excess(bands)], -1)
        hard = (excess > 0).to(excess.dtype)
        soft = torch.sigmoid(excess * self.steepness.exp().to(excess.dtype))
        return hard_forward_soft_backward(hard, soft) * self.modes.to(excess.dtype)

    def excess(self, bands: Tensor) -> list[Tensor]:
        """Return by how much each change of level exceeds its threshold, for each band.

        Shape: [*, F, 512] -> [*, F, 8], [*, F, 8], [*, F, 16]
        Units: dB
        """
        check_shapes(bands=bands)
        taps = self.filters.shape[-1]
        matrices = sliding_matrix(self.filters.to(bands.dtype), BLOCK).transpose(1, 2).flatten(2)
        excess = []
        for index, own in enumerate(BANDS):
            samples = pad(bands[..., own].flatten(-2), (taps - 1, 0)).unfold(-1, taps - 1 + BLOCK, BLOCK)
            power = (samples @ matrices[index]).square().sum(-1) / BLOCK
            level = 10 * power.clamp_min(_SILENCE).log10()
            excess.append(_excess(level, bands.shape[-2], 10 * self.rise[index], 10 * self.fall[index]))
        return excess


@final
class BitExactTransient(Transient):
    """The reference codec's order of float32 operations.

    No gradient. Dtype: float32.
    """

    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", (2 * torch.tensor(_TAPS, dtype=torch.float64)).float(), persistent=False)

    @torch.no_grad()
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        check_shapes(bands=bands)
        bands = bands.float().clone()
        bands[..., BANDS[1].start :: 2] *= -1
        return torch.stack([self._decide(bands[..., band]) * mode for band, mode in zip(BANDS, BSM_SHORT)], -1)

    def _decide(self, band: Tensor) -> Tensor:
        # In the reference codec the sample past the end of a frame always reads as 0.
        frames = pad(band.flatten(-2), (_HISTORY, 0)).unfold(-1, _HISTORY + band.shape[-1], band.shape[-1])
        samples = pad(frames, (0, 1))
        n = band.shape[-1]

        def at(offset: int) -> Tensor:
            return samples[..., offset : offset + n]

        first, second = at(10).clone(), torch.zeros_like(band)
        for j in range(0, len(_TAPS), 2):
            first += (at(j) + at(21 - j)) * self.taps[j]
            second += (at(j + 1) + at(20 - j)) * self.taps[j + 1]
        filtered = (first + second) / 2
        power = running_sum(torch.unflatten(filtered.square(), -1, (-1, BLOCK)).flatten(-3, -2)) / BLOCK
        level = (19.0 * log10f(sqrt32(power)).double()).float()
        return (_excess(level, band.shape[-2]) > 0).any(-1).float()


def high_pass_matrix() -> NDArray[np.float64]:
    """Return the high-pass as a matrix from 20 past and 16 new samples to 16 filtered ones [36, 16].

    Taps below 1e-16 are left out.
    """
    taps = np.zeros(_HISTORY + 1)
    taps[10] = 0.5
    for j in range(1, len(_TAPS), 2):
        taps[[j, 21 - j]] += _TAPS[j]
    return sliding_matrix(torch.from_numpy(taps), BLOCK).numpy()


def _excess(level: Tensor, frames: int, rise: Tensor | float = RISE, fall: Tensor | float = FALL) -> Tensor:
    """Return by how much each change of level exceeds its threshold: [*, F n] -> [*, F, n] in dB.

    Two silent blocks give not a number, which exceeds nothing.
    """
    change = level - pad(level, (1, 0))[..., :-1]
    return torch.unflatten(torch.maximum(change - rise, -change - fall), -1, (frames, -1))
