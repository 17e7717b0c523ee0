"""The measures of a decoded recording, block by block in constant memory.

The sound is measured in stretches of 128 frames, each together with the samples around it that its windows reach, and
the sums over frames are kept. So the result does not depend on the lengths of the blocks, and equals that of the
functions for the whole recording but for rounding.
"""

from typing import Final, final

import torch
from torch import Tensor

from atrac_losses.ear import EarModel, band_energies, masked_energies
from atrac_losses.masking import NoiseToMask, decibels
from atrac_losses.reduction import reduce_batch
from atrac_losses.signals import SignalPair, autocast_off
from atrac_losses.spectral import frame_distances
from atrac_losses.waveform import ratio_db, segment_ratios

_EAR: Final = EarModel()
_HOP: Final = _EAR.hop
"""Samples from frame to frame, the same for all measures."""
_LEAD: Final = _EAR.n_fft // 2 // _HOP
"""Frames kept before those to be measured: half a window."""
_FRAMES: Final = 128
"""Frames measured at a time."""


@final
class RunningMeasures:
    """Measures of a decoded recording that arrives in blocks.

    Args:
        channels: number of channels.

    Raises:
        ValueError: channels is below 1.

    Example:
        >>> running = RunningMeasures(channels=1)
        >>> for block in torch.ones(1, 3000).split(700, dim=-1):
        ...     running.push(0.9 * block, block)
        >>> round(running.result()["SNR (dB)"], 3)
        20.0
    """

    def __init__(self, channels: int) -> None:
        if channels < 1:
            raise ValueError(f"channels = {channels}, allowed 1 or more")
        self._channels = channels
        self._samples = 0
        self._peak = 0.0
        self._sums = torch.zeros(7, channels, dtype=torch.float64)  # as `_measure` returns them
        self._waiting = torch.zeros(2, channels, 0)  # estimate and reference, from `_lead` frames before on
        self._lead = 0
        self._left: Tensor | None = None

    @torch.no_grad()
    def push(self, decoded: Tensor, reference: Tensor) -> None:
        """Take the next samples of both recordings.

        Shape:  decoded, reference [C, n], n from 0 on
        Dtype:  any real floating point; computed in float32 at least.
        Raises:
            ValueError: a shape is another, or the two differ.
            TypeError: integers or complex numbers.
        """
        if decoded.shape != reference.shape or decoded.shape[:-1] != (self._channels,):
            shapes = f"decoded {list(decoded.shape)}, reference {list(reference.shape)}"
            raise ValueError(f"{shapes}, allowed [{self._channels}, n] for both")
        if not decoded.shape[-1]:
            return
        pair = SignalPair.of(decoded, reference)
        self._samples += decoded.shape[-1]
        self._peak = max(self._peak, float((pair.estimate - pair.reference).abs().max()))
        block = torch.stack([pair.estimate, pair.reference]).cpu()
        self._waiting = torch.cat([self._waiting, block], dim=-1)
        while self._waiting.shape[-1] >= (self._lead + _FRAMES + _LEAD) * _HOP:
            sums, self._left = self._measure(_FRAMES)
            self._sums += sums
            self._waiting = self._waiting[..., (self._lead + _FRAMES - _LEAD) * _HOP :]
            self._lead = _LEAD

    @torch.no_grad()
    def result(self) -> dict[str, float]:
        """Return the measures of all samples so far; more may follow.

        Means over the channels, but for the peak difference, which is the largest of all: `snr`, `segmental_snr`,
        `log_spectral_distance`, and `noise_to_mask` with its ratio and its share of disturbed frames.

        Raises:
            ValueError: there are no samples yet.
        """
        if not self._samples:
            raise ValueError("no samples to measure, allowed 1 or more")
        frames = -(-self._samples // _HOP)
        sums = self._sums + self._measure(-(-self._waiting.shape[-1] // _HOP) - self._lead)[0]
        signal, error, ratios, counted, distances, quotients, disturbed = sums
        return {
            "SNR (dB)": ratio_db(signal / self._samples, error / self._samples).mean().item(),
            "segmental SNR (dB)": reduce_batch(ratios / counted, "mean", counted > 0).item(),
            "log-spectral distance (dB)": distances.mean().item() / frames,
            "noise-to-mask ratio (dB)": decibels(quotients / frames).mean().item(),
            "disturbed frames (%)": 100.0 * disturbed.mean().item() / frames,
            "peak difference": self._peak,
        }

    def _measure(self, frames: int) -> tuple[Tensor, Tensor]:
        """Measure the next frames; return their sums [7, C], and what they leave for the mask of those after them."""
        inside = slice(self._lead, self._lead + frames)
        samples = slice(inside.start * _HOP, inside.stop * _HOP)
        estimate, reference = self._waiting[..., : samples.stop + _LEAD * _HOP]
        error = estimate - reference
        with autocast_off(error):
            powers = (x[:, samples].double().square() for x in (reference, error))
            ratios, counted = segment_ratios(SignalPair(estimate[:, samples], reference[:, samples], None), _HOP)
            distances = frame_distances(estimate, reference, _EAR.n_fft, _HOP)[:, inside]
            noise, sound = (band_energies(x, _EAR)[:, inside] for x in (error, reference))
            mask, left = masked_energies(sound, _EAR, self._left)
            heard = NoiseToMask(noise, mask, None)
        added_up = (*powers, ratios * counted, counted, distances, heard.quotient.mean(dim=-1))
        sums = [x.double().sum(dim=-1) for x in added_up]
        return torch.stack([*sums, heard.disturbed.double() * frames]), left
