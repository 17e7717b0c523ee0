"""The mel distance: how far two spectra lie apart in decibels, in bands that widen with frequency as the ear's do."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from atrac_losses.reduction import Reduction, reduce_frames
from atrac_losses.signals import SignalPair, autocast_off
from atrac_losses.spectrogram import check_frames, frames_that_count, power_spectrogram

LINEAR_HZ_PER_MEL = 200.0 / 3.0
"""Below `KNEE_HZ` a mel is as wide as this."""
KNEE_HZ = 1000.0
MELS_PER_FACTOR_6_4 = 27.0
"""Above it, 27 mel are a factor of 6.4 in frequency."""


def hertz_to_mel(f: Tensor) -> Tensor:
    """Map Hz to Slaney's mel: linear to 1 kHz, logarithmic above.

    Example:
        >>> hertz_to_mel(torch.tensor([0.0, 1000.0, 6400.0]))
        tensor([ 0., 15., 42.])
    """
    above = MELS_PER_FACTOR_6_4 / math.log(6.4) * torch.log(f.clamp(min=KNEE_HZ) / KNEE_HZ)
    return torch.where(f < KNEE_HZ, f / LINEAR_HZ_PER_MEL, KNEE_HZ / LINEAR_HZ_PER_MEL + above)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """Map Slaney's mel to Hz, the inverse of `hertz_to_mel`.

    Example:
        >>> mel_to_hertz(torch.tensor([0.0, 15.0, 42.0]))
        tensor([   0., 1000., 6400.])
    """
    knee = KNEE_HZ / LINEAR_HZ_PER_MEL
    above = KNEE_HZ * torch.exp(math.log(6.4) / MELS_PER_FACTOR_6_4 * (mel - knee).clamp(min=0.0))
    return torch.where(mel < knee, mel * LINEAR_HZ_PER_MEL, above)


def mel_filterbank(
    sample_rate: float, n_fft: int, n_mels: int, f_min: float = 0.0, f_max: float | None = None
) -> Tensor:
    """Make triangles that are evenly spaced in mel and of area 1 over frequency.

    Args:
        sample_rate: Hz.
        n_fft: samples of the transform.
        n_mels: number of bands.
        f_min, f_max: Hz where the first triangle begins and the last one ends; f_max by default sample_rate / 2.

    Shape:    [n_mels, n_fft // 2 + 1]
    Dtype:    float64
    Units:    1 / Hz
    Raises:   ValueError for n_mels below 1, for frequencies that are not 0 <= f_min < f_max <= sample_rate / 2, and
              for a band too narrow to hold a bin.
    Source:   Slaney, "Auditory Toolbox", version 2, Interval Research Corporation, technical report 1998-010, as
              `librosa.filters.mel` has it
    Example:
        >>> mel_filterbank(44100, 2048, 80).shape
        torch.Size([80, 1025])
    """
    highest = sample_rate / 2 if f_max is None else f_max
    check_frames(n_fft, 1)
    if n_mels < 1:
        raise ValueError(f"n_mels = {n_mels}, allowed 1 or more")
    if not 0 <= f_min < highest <= sample_rate / 2:
        raise ValueError(
            f"f_min = {f_min} Hz, f_max = {highest} Hz, allowed 0 <= f_min < f_max <= {sample_rate / 2} Hz"
        )
    ends = hertz_to_mel(torch.tensor([f_min, highest], dtype=torch.float64))
    steps = torch.arange(n_mels + 2, dtype=torch.float64) / (n_mels + 1)
    corners = mel_to_hertz(ends[0] + steps * (ends[1] - ends[0]))[:, None]
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    bank = torch.minimum(rising, falling).clamp(min=0.0) * 2.0 / (corners[2:] - corners[:-2])
    if (empty := int((bank.amax(dim=-1) == 0).sum())) > 0:
        raise ValueError(
            f"n_mels = {n_mels}: {empty} of the bands hold no bin of n_fft = {n_fft}; take fewer or a longer n_fft"
        )
    return bank


def mel_distance(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    sample_rate: float = 44100,
    n_fft: int = 2048,
    hop: int = 512,
    n_mels: int = 80,
    f_min: float = 0.0,
    f_max: float | None = None,
    floor: float = -100.0,
) -> Tensor:
    """Compare two mel spectra in decibels, band by band: lower is better, 0 for equal inputs.

    level = 10 log10(mean power of the bins under the triangle + 10 ** (floor / 10))
    distance = mean over frames and bands of |level_estimate - level_reference|

    A frame counts when the sample at its centre counts; a signal without such a frame is left out of mean and sum, and
    reads 0 under "none".

    Args:
        estimate: the signal to be judged.
        reference: the original signal.
        mask: true, or any number but 0, where a sample counts; default: all count.
        reduction: "mean", "sum" or "none" over the batch.
        sample_rate: Hz, default 44100.
        n_fft: samples under the Hann window, default 2048.
        hop: samples from frame to frame, default 512.
        n_mels: number of bands, default 80; fewer forgive more detail.
        f_min, f_max: Hz where the bands begin and end, default 0 and half the sampling rate.
        floor: dB re a full-scale sine in every bin, default -100; higher lets quiet bands weigh less.

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    any real floating point; computed in float32 at least, also under autocast.
    Units:    dB of power
    Raises:   TypeError and ValueError as `SignalPair.of`, `reduce_batch` and `mel_filterbank` do; ValueError for n_fft
              below 2 and hop below 1.
    Source:   Kong, Kim, Bae, "HiFi-GAN", NeurIPS 2020, arXiv 2010.05646
    Differs:  decibels of power, where they take the logarithm of magnitudes; the floor is added, not clamped to.
    Example:
        >>> hiss = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
        >>> round(mel_distance(hiss, 10.0 * hiss).item(), 3)
        20.0
    """
    pair = SignalPair.of(estimate, reference, mask)
    signals = pair.estimate, pair.reference
    bank = _scaled_bank(sample_rate, n_fft, n_mels, f_min, f_max, pair.estimate.dtype, pair.estimate.device)
    with autocast_off(pair.estimate):
        levels = [10.0 * torch.log10(power_spectrogram(x, n_fft, hop) @ bank + 10.0 ** (floor / 10.0)) for x in signals]
        distance = (levels[0] - levels[1]).abs().mean(dim=-1)
        return reduce_frames(distance, frames_that_count(pair.valid, hop), reduction)


@lru_cache(maxsize=32)
def _scaled_bank(
    sample_rate: float,
    n_fft: int,
    n_mels: int,
    f_min: float,
    f_max: float | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return the filterbank times the width of a bin, [n_fft // 2 + 1, n_mels]: weights of a mean over bins.

    It is kept for the next call, so it is never made in inference mode: no later gradient may pass through its tensors.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        bank = mel_filterbank(sample_rate, n_fft, n_mels, f_min, f_max).T * (sample_rate / n_fft)
        return bank.to(device, dtype)
