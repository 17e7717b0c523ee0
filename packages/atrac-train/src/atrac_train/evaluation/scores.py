"""The measures of a decoded recording."""

from __future__ import annotations

import importlib.util
from typing import Final

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_losses import log_spectral_distance, noise_to_mask, pesq, pre_echo, segmental_snr, snr, stoi

SCORES: Final = {
    "NMR (dB)": "less",
    "disturbed (%)": "less",
    "LSD (dB)": "less",
    "LSD to 16 kHz (dB)": "less",
    "SNR (dB)": "more",
    "segmental SNR (dB)": "more",
    "pre-echo (dB)": "less",
}
"""Name to whether more or less is better."""
SPEECH_SCORES: Final = {"STOI": "more", "PESQ": "more"}
"""Measures of speech; PESQ is its wide-band form, on sound resampled to 16 kHz."""
_PACKAGES: Final = {"STOI": "pystoi", "PESQ": "pesq"}
_PESQ_RATE: Final = 16_000


@torch.no_grad()
def score(original: NDArray[np.float32], decoded: NDArray[np.float32]) -> dict[str, float]:
    """Measure a decoded recording whose delay has been removed; means over channels.

    Shape: [C, N], [C, N]
    """
    a, b = (torch.from_numpy(np.ascontiguousarray(x)) for x in (decoded, original))
    ear = noise_to_mask(a, b)
    return {
        "NMR (dB)": ear.ratio.mean().item(),
        "disturbed (%)": 100 * ear.disturbed.mean().item(),
        "LSD (dB)": log_spectral_distance(a, b).item(),
        "LSD to 16 kHz (dB)": log_spectral_distance(a, b, f_max=16000).item(),
        "SNR (dB)": snr(a, b).item(),
        "segmental SNR (dB)": segmental_snr(a, b).item(),
        "pre-echo (dB)": pre_echo(a, b).item(),
    }


def missing_speech_packages() -> dict[str, str]:
    """Return the measures of speech whose package is not installed, each with the name of the package."""
    return {name: package for name, package in _PACKAGES.items() if importlib.util.find_spec(package) is None}


def speech_score(name: str, original: NDArray[np.float32], decoded: NDArray[np.float32]) -> float | None:
    """Measure speech; return None if there is too little of it. Shape: [C, N], [C, N]. Raises: ImportError."""
    a, b = (torch.from_numpy(np.ascontiguousarray(x)) for x in (decoded, original))
    if name == "STOI":
        value = stoi(a, b, sample_rate=SAMPLE_RATE).item()
    else:
        a, b = (torch.from_numpy(soxr.resample(x.T.numpy(), SAMPLE_RATE, _PESQ_RATE).T.copy()) for x in (a, b))
        value = pesq(a, b, sample_rate=_PESQ_RATE).item()
    return value or None  # a mean of nothing is 0
