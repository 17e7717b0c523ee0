"""Loudness: a slowly changing number per recording that scales the allocator's hearing threshold.

    spectrum [B, C, F, 512], bsm ─[ loudness ]→ an argument of the allocator

This is the only place that combines channels. Each frame gives L <- 0.98 L + 0.02 l, where l is the loudness-weighted
energy of its spectrum, or the mean of two channels. Frames with a short block in the first channel are skipped; with
one in the second channel only, the first counts alone. Source: [atracdenc] atrac_psy_common.cpp, atrac1denc.cpp.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream.tables import FRAME_SAMPLES, N_BANDS
from atrac_modules.operation import operation
from atrac_modules.ordered_float import log10f, running_sum
from atrac_modules.stage import ShapeError, Stage

START: Final = 0.006
"""L before the first frame, and the loudness at which the hearing threshold is that of its table."""
_KEEP: Final = 0.98


@dataclass(frozen=True)
class LoudnessTrack:
    """Loudness over time. Shape: loudness [B, F], end [B] (after the last frame, the `start` of the next chunk)."""

    loudness: Tensor
    end: Tensor


class Loudness(Stage):
    """Follows the loudness of recordings.

    Shape:  spectrum [B, C, F, 512] with C = 1 or 2, bsm [B, C, F, 3], start [B] or None -> loudness [B, F], end [B]
    Dtype:  float32 or float64, kept; no gradient
    Raises: ShapeError: another shape.
    """

    single: ClassVar[bool]
    """Whether the running value is rounded to float32."""

    @torch.no_grad()
    def forward(self, spectrum: Tensor, bsm: Tensor, start: Tensor | None = None) -> LoudnessTrack:
        """Follow the loudness from `start` (0.006 if None) on."""
        channels = spectrum.shape[1] if spectrum.dim() == 4 else 0
        if channels not in (1, 2) or spectrum.shape[-1] != FRAME_SAMPLES:
            raise ShapeError("spectrum", "[B, C, F, 512] with C = 1 or 2", spectrum.shape)
        if bsm.shape != (*spectrum.shape[:-1], N_BANDS):
            raise ShapeError("bsm", "[B, C, F, 3] as the spectrum", bsm.shape)
        energy = self.energy(spectrum)
        long = (bsm == 0).all(-1)
        # If both channels are long, each counts half.
        both = long.all(1) & (channels == 2)
        gain = torch.where(both, energy[:, 0] + energy[:, -1], 2 * energy[:, 0])
        if start is None:
            start = spectrum.new_full(spectrum.shape[:1], START)
        track = follow(gain, long[:, 0], start, self.single)
        return LoudnessTrack(track, track[:, -1])

    @abstractmethod
    def energy(self, spectrum: Tensor) -> Tensor:
        """Return the loudness-weighted energy of each spectrum. Shape: [*, 512] -> [*]."""


@final
class ReferenceLoudness(Loudness):
    """Energies by one matrix product, the running value in float64."""

    single = False
    curve: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_table("curve", loudness_curve())

    def energy(self, spectrum: Tensor) -> Tensor:
        """Return the loudness-weighted energy of each spectrum."""
        return spectrum.square() @ self.curve.to(spectrum.dtype)


@final
class BitExactLoudness(Loudness):
    """Energies summed one after the other in float32, the running value rounded to float32."""

    single = True
    curve: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("curve", torch.from_numpy(loudness_curve()), persistent=False)

    def energy(self, spectrum: Tensor) -> Tensor:
        """Return the loudness-weighted energy of each spectrum."""
        return running_sum(spectrum.square() * self.curve)


def _shapes(gain: Tensor, counted: Tensor, start: Tensor, single: bool) -> Tensor:
    return torch.empty_like(gain)


@operation(_shapes)
def follow(gain: Tensor, counted: Tensor, start: Tensor, single: bool) -> Tensor:
    """Run the recursion along the frames; a single operation to `torch.compile`.

    Shape: gain, counted [B, F], start [B] -> [B, F]
    """
    tracks = []
    for loudness, gains, counts in zip(start.tolist(), gain.tolist(), counted.tolist()):
        track = []
        for own, counts_too in zip(gains, counts):
            if counts_too:
                loudness = _KEEP * loudness + 0.01 * own
                loudness = float(np.float32(loudness)) if single else loudness
            track.append(loudness)
        tracks.append(track)
    return gain.new_tensor(tracks)


def loudness_curve() -> NDArray[np.float32]:
    """Return the weight of each coefficient [512], float32 as the reference codec's.

    10 ** (t / 10), t = -10 (log10 f - 3.5) ** 2 + 3 - f / 3000, f = (i + 3) 22050 / 512 Hz
    """
    frequency = ((np.arange(FRAME_SAMPLES) + 3) * 0.5 * 44100 / FRAME_SAMPLES).astype(np.float32)
    x = (log10f(torch.from_numpy(frequency)).numpy().astype(np.float64) - 3.5).astype(np.float32)
    level = np.float32(-10) * x * x + np.float32(3) - frequency / np.float32(3000)
    return np.power(10.0, 0.1 * level.astype(np.float64)).astype(np.float32)
