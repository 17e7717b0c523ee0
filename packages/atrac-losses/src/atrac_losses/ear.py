"""A model of the ear: from sound to energies in bands of the inner ear, and from those to the energy they mask.

    sound ─power spectrum─ outer, middle ear ─ bands ─→ energies
    energies ─ + internal noise ─ spreading over frequency ─ forward masking ─ offset ─→ mask

Source: the FFT-based ear model of ITU-R BS.1387-1, annex 2, as [KABAL-2003] works it out.
Differs: any sampling rate, window and hop, where the standard has 48 kHz, 2048 and 1024 samples; the window is periodic
    (n / 2048 where the standard has n / 2047); frames are centred on sample 0, hop, 2 hop and so on.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from atrac_losses.spectrogram import check_frames, power_spectrogram

CALIBRATION_DB = 1.4145
"""The standard sets its level by the largest bin of a sine of 1019.5 Hz, which lies half way between two bins (of 2048
samples at 48 kHz) and is this much below one in the middle of a bin: -20 log10(sin(pi d) / (pi d (1 - d ** 2))),
d = (1019.5 * 2048 / 48000 - 43) * 2047 / 2048."""


@dataclass(frozen=True)
class EarModel:
    """Settings of the ear model.

    Args:
        sample_rate: Hz.
        n_fft: samples under the Hann window; 2048 in the standard.
        hop: samples from frame to frame; 1024 in the standard.
        f_min, f_max: Hz, the lowest and highest frequency that counts; 80 and 18000 in the standard.
        bands_per_bark: 4 in the standard's basic version, 2 in its advanced one. Fewer are faster.
        level: dB SPL at which a full-scale sine is played; 92 in the standard. The lower, the more the internal noise
            masks.
        spreading: "level" for upper slopes that get flatter with the level, as in the standard; "fixed" for those of
            60 dB SPL at any level; "none" for no spreading over frequency.
        forward_masking: whether sounds mask those after them, as in the standard.

    Raises:
        ValueError: a setting is outside its range.

    Example:
        >>> EarModel().n_bands
        109
    """

    sample_rate: float = 44100
    n_fft: int = 2048
    hop: int = 512
    f_min: float = 80.0
    f_max: float = 18000.0
    bands_per_bark: float = 4.0
    level: float = 92.0
    spreading: Literal["level", "fixed", "none"] = "level"
    forward_masking: bool = True

    def __post_init__(self) -> None:
        check_frames(self.n_fft, self.hop)
        if not 0 < self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"f_min = {self.f_min} Hz, f_max = {self.f_max} Hz, "
                f"allowed 0 < f_min < f_max <= {self.sample_rate / 2} Hz"
            )
        if not 0 < self.bands_per_bark < math.inf:
            raise ValueError(f"bands_per_bark = {self.bands_per_bark}, allowed above 0")
        if not math.isfinite(self.level):
            raise ValueError(f"level = {self.level} dB SPL, allowed any finite number")
        if self.spreading not in ("level", "fixed", "none"):
            raise ValueError(f"spreading = {self.spreading!r}, allowed 'level', 'fixed', 'none'")

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self.edges) - 1

    @property
    def edges(self) -> Tensor:
        """Edges of the bands, Hz [n_bands + 1]: evenly spaced in Bark from f_min on, the last one at f_max."""
        lowest, highest = hertz_to_bark(torch.tensor([self.f_min, self.f_max], dtype=torch.float64)).tolist()
        n = math.ceil((highest - lowest) * self.bands_per_bark - 1e-9)
        inner = lowest + torch.arange(n, dtype=torch.float64) / self.bands_per_bark
        return torch.cat([bark_to_hertz(inner), torch.tensor([self.f_max], dtype=torch.float64)])

    @property
    def centres(self) -> Tensor:
        """Centre of each band, Hz [n_bands]: half way in Bark between its edges."""
        bark = hertz_to_bark(self.edges)
        return bark_to_hertz((bark[:-1] + bark[1:]) / 2.0)


def hertz_to_bark(f: Tensor) -> Tensor:
    """Map Hz to Bark, 7 asinh(f / 650).

    Example:
        >>> round(hertz_to_bark(torch.tensor(1000.0)).item(), 3)
        8.511
    """
    return 7.0 * torch.asinh(f / 650.0)


def bark_to_hertz(z: Tensor) -> Tensor:
    """Map Bark to Hz, the inverse of `hertz_to_bark`."""
    return 650.0 * torch.sinh(z / 7.0)


def threshold_in_quiet(f: Tensor) -> Tensor:
    """Level in dB SPL of the faintest audible tone at f in Hz.

    3.64 k ** -0.8 - 6.5 exp(-0.6 (k - 3.3) ** 2) + 0.001 k ** 3.6, k in kHz

    Source:   BS.1387-1, as [KABAL-2003] has it
    Differs:  from Terhardt's formula, which has k ** 4 and rises more steeply: 65 dB at 16 kHz, where this has 22.
    Example:
        >>> threshold_in_quiet(torch.tensor([1000.0, 16000.0]))
        tensor([ 3.3691, 22.0149])
    """
    k = f / 1000.0
    return 3.64 * k**-0.8 - 6.5 * torch.exp(-0.6 * (k - 3.3) ** 2) + 0.001 * k**3.6


def internal_noise(f: Tensor) -> Tensor:
    """Level of the ear's own noise in a band around f in Hz, in dB: 0.4 of the threshold's rise towards the bass.

    0.4 * 3.64 k ** -0.8, k in kHz

    Example:
        >>> round(internal_noise(torch.tensor(1000.0)).item(), 3)
        1.456
    """
    return 0.4 * 3.64 * (f / 1000.0) ** -0.8


def ear_weight(f: Tensor) -> Tensor:
    """Weight of outer and middle ear in dB at f in Hz: what of the threshold in quiet is not internal noise.

    Example:
        >>> round(ear_weight(torch.tensor(1000.0)).item(), 3)
        -1.913
    """
    return internal_noise(f) - threshold_in_quiet(f)


def masking_offset(bark: Tensor) -> Tensor:
    """Distance in dB of a mask below its masker: 3 up to 12 Bark above the lowest band, from there on 0.25 per Bark.

    Example:
        >>> masking_offset(torch.tensor([0.0, 12.0, 20.0])).tolist()
        [3.0, 3.0, 5.0]
    """
    return torch.where(bark <= 12.0, torch.full_like(bark, 3.0), 0.25 * bark)


def band_energies(signal: Tensor, ear: EarModel) -> Tensor:
    """Return the energy that reaches the inner ear in each band.

    Each bin is as wide as the distance to the next, and gives each band the share of its power that lies in the band.

    Args:
        signal: sound, full scale +-1.0.
        ear: settings.

    Shape:    signal [*, T] -> [*, F, n_bands], F = ceil(T / hop)
    Units:    energy, 1 is 0 dB SPL
    """
    return power_spectrogram(signal, ear.n_fft, ear.hop) @ _tables(ear, signal.dtype, signal.device).grouping


def masked_energies(energies: Tensor, ear: EarModel, left: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the energy that a sound masks in each band, and what its last frame leaves for the frames after it.

    Args:
        energies: the sound, as `band_energies` gives it.
        ear: settings.
        left: what the frame before the first one left, as this function returned it; default: silence before.

    Shape:    energies [*, F, n_bands], left [*, n_bands] -> mask [*, F, n_bands], left [*, n_bands]
    Units:    as energies; the mask is never 0, because of the internal noise
    """
    tables = _tables(ear, energies.dtype, energies.device)
    excitation = energies + tables.noise
    if ear.spreading != "none":
        excitation = _spread(excitation, ear)
    remaining = torch.zeros_like(excitation)
    if ear.forward_masking:
        remaining = _decayed(excitation, tables.decay, left)
    return torch.maximum(excitation, remaining) * tables.offset, remaining[..., -1, :]


def _spread(energy: Tensor, ear: EarModel) -> Tensor:
    """Spread energies over the bands around them, [*, F, n_bands].

    Down by 27 dB per Bark, up by 24 + 230 Hz / f - 0.2 dB per dB of level; energies that meet in a band are added as
    powers of 0.4. A flat spectrum at 0 dB SPL stays as it is.
    """
    flat = torch.ones(energy.shape[-1], dtype=energy.dtype, device=energy.device)
    return _spread_unscaled(energy, ear) / _spread_unscaled(flat, ear)


def _spread_unscaled(energy: Tensor, ear: EarModel) -> Tensor:
    n, width = energy.shape[-1], 1.0 / ear.bands_per_bark
    place = torch.arange(n, dtype=energy.dtype, device=energy.device)
    level = energy.log10() if ear.spreading == "level" else torch.full_like(energy, 6.0)
    down = 10.0 ** (-2.7 * width)
    up = 10.0 ** (width * (-2.4 - 23.0 / _tables(ear, energy.dtype, energy.device).centre + 0.2 * level))
    up = up.clamp(max=0.999)  # from about 120 dB SPL on it would not fall at all
    # Each band spreads its own energy whatever the slopes, so divide by the sum of both geometric series.
    total = (1.0 - down ** (place + 1.0)) / (1.0 - down) + (1.0 - up ** (n - place)) / (1.0 - up) - 1.0
    given = (energy / total) ** 0.4

    distance = place[:, None] - place
    spread: Tensor = given @ torch.where(distance > 0, down ** (0.4 * distance.clamp(min=0.0)), 0.0)
    fall = up**0.4
    for d in range(n):
        spread = spread + pad(given, (d, 0))
        given = given[..., :-1] * fall[..., : n - d - 1]
    return spread**2.5


def _decayed(energy: Tensor, decay: Tensor, before: Tensor | None) -> Tensor:
    """Return what is left of the energies of all frames so far, [*, F, n_bands].

    left[f] = (1 - decay) energy[f] + decay left[f - 1], from `before` [*, n_bands] or silence. After each pass of the
    loop, a frame holds what the last `reach` frames left, and so does the frame `reach` before it: together, twice as
    many.
    """
    left, reach = (1.0 - decay) * energy, 1
    if before is not None:
        left = torch.cat([left[..., :1, :] + decay * before.unsqueeze(-2), left[..., 1:, :]], dim=-2)
    while reach < energy.shape[-2]:
        left = left + decay**reach * pad(left[..., :-reach, :], (0, 0, reach, 0))
        reach *= 2
    return left


@dataclass(frozen=True)
class _Tables:
    """Tables of an ear model.

    Shape: centre, noise, offset, decay [n_bands], grouping [n_fft // 2 + 1, n_bands]
    """

    centre: Tensor
    grouping: Tensor
    noise: Tensor
    offset: Tensor
    decay: Tensor


@lru_cache(maxsize=32)
def _tables(ear: EarModel, dtype: torch.dtype, device: torch.device) -> _Tables:
    """Compute the tables in float64 and cast them once.

    They are kept for the next call, so they are never made in inference mode: no later gradient may pass through its
    tensors.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        edges, centre = ear.edges, ear.centres
        step = ear.sample_rate / ear.n_fft
        bins = step * torch.arange(ear.n_fft // 2 + 1, dtype=torch.float64)[:, None]
        inside = torch.minimum(bins + step / 2, edges[1:]) - torch.maximum(bins - step / 2, edges[:-1])
        weight = ear_weight(bins.clamp(min=step / 2)) + ear.level + CALIBRATION_DB  # bin 0 reaches up to step / 2
        grouping = inside.clamp(min=0.0) / step * 10.0 ** (weight / 10.0)
        above = torch.arange(ear.n_bands, dtype=torch.float64) / ear.bands_per_bark
        time_constant = 0.008 + 100.0 / centre * (0.030 - 0.008)  # seconds
        tables = (
            centre,
            grouping,
            10.0 ** (internal_noise(centre) / 10.0),
            10.0 ** (-masking_offset(above) / 10.0),
            torch.exp(-ear.hop / (ear.sample_rate * time_constant)),
        )
        return _Tables(*(table.to(device, dtype) for table in tables))
