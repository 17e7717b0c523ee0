"""The measures of a decoded recording, and of the sound units it was decoded from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from atrac_bitstream import AeaReader, unpack_units
from atrac_bitstream import tables as t
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_losses import log_spectral_distance, noise_to_mask, pesq, pre_echo, segmental_snr, snr, stoi
from atrac_train.evaluation.results import Bits

SCORES: Final = {
    "NMR (dB)": -1,
    "disturbed (%)": -1,
    "LSD (dB)": -1,
    "LSD to 16 kHz (dB)": -1,
    "SNR (dB)": 1,
    "segmental SNR (dB)": 1,
    "pre-echo (dB)": -1,
}
"""Name to sign: 1 if more is better, -1 if less is better."""
SPEECH_SCORES: Final = {"STOI": 1, "PESQ": 1}
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


def bits_of(aea: Path) -> Bits:
    """Count the sound units of a file and measure how they spend their bits. Raises: AtracError, OSError."""
    with AeaReader(aea) as reader:
        fields = unpack_units(reader.read())
    words = t.WORD_LENGTHS[fields.idwl].reshape(-1, t.N_BFU_MAX)
    used = words @ t.BFU_SIZES
    budget = np.array([t.value_bits(n) for n in range(t.N_BFU_MAX + 1)])[fields.n_bfu].ravel()
    return Bits(
        used.size,
        int((used > budget).sum()),
        float(used.mean()),
        float(budget.mean()),
        float(fields.n_bfu.mean()),
        (fields.bsm > 0).reshape(-1, t.N_BANDS).mean(0).tolist(),
        words.mean(0).tolist(),
    )
