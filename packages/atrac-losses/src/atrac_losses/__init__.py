"""Measures of the difference between two sounds, differentiable but for the two measures of speech.

Functions take `(estimate, reference, mask=None, reduction="mean")` on `[*, T]`; `Loss` makes a module to minimise
of any of them.
"""

from atrac_losses.__about__ import __version__
from atrac_losses.ear import EarModel
from atrac_losses.loss import Loss
from atrac_losses.masking import NoiseToMask, nmr, noise_to_mask
from atrac_losses.mel import mel_distance, mel_filterbank
from atrac_losses.preecho import pre_echo
from atrac_losses.reduction import Reduction, masked_mean, reduce_batch
from atrac_losses.spectral import log_spectral_distance
from atrac_losses.speech import pesq, stoi
from atrac_losses.stft import (
    StftPart,
    log_magnitude_error,
    multi_resolution_stft_loss,
    phase_error,
    spectral_convergence,
    stft_loss,
)
from atrac_losses.streaming import RunningMeasures
from atrac_losses.waveform import l1, mse, segmental_snr, si_sdr, snr

__all__ = [
    "EarModel",
    "Loss",
    "NoiseToMask",
    "Reduction",
    "RunningMeasures",
    "StftPart",
    "__version__",
    "l1",
    "log_magnitude_error",
    "log_spectral_distance",
    "masked_mean",
    "mel_distance",
    "mel_filterbank",
    "mse",
    "multi_resolution_stft_loss",
    "nmr",
    "noise_to_mask",
    "pesq",
    "phase_error",
    "pre_echo",
    "reduce_batch",
    "segmental_snr",
    "si_sdr",
    "snr",
    "spectral_convergence",
    "stft_loss",
    "stoi",
]
