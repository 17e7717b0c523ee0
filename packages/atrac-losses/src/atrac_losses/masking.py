"""Noise-to-mask ratio: how far the error exceeds the level that the reference masks, by a model of the ear.

    reference ─ ear ─ energies ─ masking ─→ mask
    error     ─ ear ─ energies ───────────→ noise

Source: ITU-R BS.1387-1, annex 2, as [KABAL-2003] works it out; the ear is in `ear.py`. The ratio is the standard's
    model output variable Total NMR, the share of disturbed frames its RelDistFrames.
Differs: the error is the spectrum of the difference of the waveforms, where the standard takes the difference of
    magnitude spectra (it forgives phase, this does not; here 6 dB more noise are 6 dB more of the ratio). No frame is
    left out at the ends, where the standard skips what is near silence. Nothing is mapped to a grade: this is not PEAQ.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from atrac_losses.ear import EarModel, band_energies, masked_energies
from atrac_losses.reduction import Reduction, masked_mean, reduce_batch
from atrac_losses.signals import SignalPair, autocast_off
from atrac_losses.spectrogram import frames_that_count

DISTURBED_DB = 1.5
"""A frame is disturbed when some band of it has a noise-to-mask ratio of at least this."""
FLOOR_DB = -100.0
"""The ratio of equal signals."""


@dataclass(frozen=True)
class NoiseToMask:
    """Noise and mask in each band, and the numbers derived from them.

    Args:
        noise: energy of the error.
        mask: energy that the reference masks.
        counted: frames that count; None for all.

    Shape:  noise, mask [*, F, n_bands], counted [*, F]
    Units:  energy, 1 is 0 dB SPL
    """

    noise: Tensor
    mask: Tensor
    counted: Tensor | None

    @property
    def quotient(self) -> Tensor:
        """Noise over mask, as a ratio of energies [*, F, n_bands]."""
        return self.noise / self.mask

    @property
    def ratio(self) -> Tensor:
        """Noise-to-mask ratio of each signal, dB [*]: ratios of energies, averaged over bands and frames."""
        return decibels(masked_mean(self.quotient.mean(dim=-1), self.counted))

    @property
    def by_band(self) -> Tensor:
        """Ratio of each band, dB [*, n_bands]: averaged over frames."""
        counted = None if self.counted is None else self.counted.unsqueeze(-2)
        return decibels(masked_mean(self.quotient.transpose(-1, -2), counted))

    @property
    def by_frame(self) -> Tensor:
        """Ratio of each frame, dB [*, F]: averaged over bands; frames that do not count are in it."""
        return decibels(self.quotient.mean(dim=-1))

    @property
    def disturbed(self) -> Tensor:
        """Share of frames with a band at 1.5 dB or more, [*], 0 to 1; it has no gradient."""
        worst = decibels(self.quotient.amax(dim=-1))
        return masked_mean((worst >= DISTURBED_DB).to(worst.dtype), self.counted)


def noise_to_mask(
    estimate: Tensor, reference: Tensor, mask: Tensor | None = None, *, ear: EarModel | None = None
) -> NoiseToMask:
    """Measure noise and mask in the bands of the ear.

    Args:
        estimate: the signal to be judged.
        reference: the original signal.
        mask: true, or any number but 0, where a sample counts; default: all count. A frame counts when the sample at
            its centre does.
        ear: settings; default: `EarModel()`.

    Shape:    estimate, reference, mask [*, T] -> noise, mask [*, F, n_bands], F = ceil(T / hop)
    Dtype:    any real floating point; computed in float32 at least, also under autocast.
    Raises:   TypeError and ValueError as `SignalPair.of` does.
    Example:
        >>> hiss = torch.randn(20000, generator=torch.Generator().manual_seed(0))
        >>> result = noise_to_mask(1.001 * hiss, hiss)
        >>> result.noise.shape, round(result.ratio.item()), result.disturbed.item()
        (torch.Size([40, 109]), -60, 0.0)
    """
    ear = ear or EarModel()
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        noise = band_energies(pair.estimate - pair.reference, ear)
        masked, _ = masked_energies(band_energies(pair.reference, ear), ear)
    return NoiseToMask(noise, masked, frames_that_count(pair.valid, ear.hop))


def nmr(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    ear: EarModel | None = None,
) -> Tensor:
    """Measure the noise-to-mask ratio: lower is better, -100 dB for equal inputs.

    ratio = 10 log10(mean over frames and bands of noise / mask + 1e-10)

    At 0 dB the noise equals the mask on average. Single bands and frames are audible at lower ratios already, which
    `noise_to_mask(...).disturbed` counts. A signal without a frame that counts is left out of mean and sum, and reads 0
    under "none".

    Args:
        estimate: the signal to be judged.
        reference: the original signal.
        mask: true, or any number but 0, where a sample counts; default: all count.
        reduction: "mean", "sum" or "none" over the batch.
        ear: settings; default: `EarModel()`. Train on other settings than those you report.

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    any real floating point; computed in float32 at least, also under autocast.
    Units:    dB
    Raises:   TypeError and ValueError as `noise_to_mask` and `reduce_batch` do.
    Source:   ITU-R BS.1387-1, annex 2; see the head of this file for where it differs.
    Example:
        >>> hiss = torch.randn(20000, generator=torch.Generator().manual_seed(0))
        >>> round(nmr(1.001 * hiss, hiss).item())
        -60
    """
    result = noise_to_mask(estimate, reference, mask, ear=ear)
    with autocast_off(result.noise):
        return reduce_batch(result.ratio, reduction, None if result.counted is None else result.counted.any(dim=-1))


def decibels(energy: Tensor) -> Tensor:
    """Convert a ratio of energies to dB, `FLOOR_DB` for 0."""
    return 10.0 * torch.log10(energy + 10.0 ** (FLOOR_DB / 10.0))
