"""The measures of a decoded recording."""

from __future__ import annotations

from typing import Final

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_losses import log_spectral_distance, noise_to_mask, pesq, pre_echo, segmental_snr, snr, stoi
from atrac_train.tracking import plain

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
_PESQ_RATE: Final = 16_000


@torch.no_grad()
def measure(
    original: NDArray[np.float32], decoded: NDArray[np.float32], speech: bool
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Measure a decoded recording whose delay has been removed; means over channels.

    Args:
        original, decoded: samples at 44.1 kHz.
        speech: whether to take the measures of speech too.

    Shape: [C, N], [C, N]

    Returns:
        Scores by name, None where a measure gives no finite number; and the reason of each that is None.
    """
    a, b = (torch.from_numpy(np.ascontiguousarray(x)) for x in (decoded, original))
    ear = noise_to_mask(a, b)
    scores: dict[str, float | None] = plain(
        {
            "NMR (dB)": ear.ratio.mean().item(),
            "disturbed (%)": 100 * ear.disturbed.mean().item(),
            "LSD (dB)": log_spectral_distance(a, b).item(),
            "LSD to 16 kHz (dB)": log_spectral_distance(a, b, f_max=16000).item(),
            "SNR (dB)": snr(a, b).item(),
            "segmental SNR (dB)": segmental_snr(a, b).item(),
            "pre-echo (dB)": pre_echo(a, b).item(),
        }
    )
    missing = {name: "not finite" for name, value in scores.items() if value is None}
    for name, take in {"STOI": _stoi, "PESQ": _pesq}.items() if speech else ():
        try:
            scores[name] = plain(take(a, b).item()) or None  # a mean of nothing is 0
            if scores[name] is None:
                missing[name] = "too little speech"
        except ImportError as error:  # an optional package
            scores[name], missing[name] = None, str(error)
    return scores, missing


def _stoi(a: Tensor, b: Tensor) -> Tensor:
    return stoi(a, b, sample_rate=SAMPLE_RATE)


def _pesq(a: Tensor, b: Tensor) -> Tensor:
    a, b = (torch.from_numpy(soxr.resample(x.T.numpy(), SAMPLE_RATE, _PESQ_RATE).T.copy()) for x in (a, b))
    return pesq(a, b, sample_rate=_PESQ_RATE)
