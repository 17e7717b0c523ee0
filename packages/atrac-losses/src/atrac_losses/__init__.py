"""Differentiable measures of how far one sound is from another.

Functions take `(estimate, reference, mask=None, reduction="mean")` on `[*, T]`; modules return a loss to
minimise.
"""

from atrac_losses.__about__ import __version__
from atrac_losses.reduction import Reduction, masked_mean, reduce_batch
from atrac_losses.spectral import LogSpectralDistance, log_spectral_distance
from atrac_losses.waveform import (
    MeanAbsoluteError,
    MeanSquaredError,
    SegmentalSnr,
    SiSdr,
    Snr,
    l1,
    mse,
    segmental_snr,
    si_sdr,
    snr,
)

__all__ = [
    "LogSpectralDistance",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Reduction",
    "SegmentalSnr",
    "SiSdr",
    "Snr",
    "__version__",
    "l1",
    "log_spectral_distance",
    "masked_mean",
    "mse",
    "reduce_batch",
    "segmental_snr",
    "si_sdr",
    "snr",
]
