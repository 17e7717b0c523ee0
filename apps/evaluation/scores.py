"""What is measured of a decoded recording, and of the sound units it came from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from atrac_bitstream import AeaReader, unpack_units
from atrac_bitstream import tables as t
from atrac_losses import log_spectral_distance, noise_to_mask, pre_echo, segmental_snr, snr

SCORES: Final = {
    "NMR (dB)": -1,
    "disturbed (%)": -1,
    "LSD (dB)": -1,
    "LSD to 16 kHz (dB)": -1,
    "SNR (dB)": 1,
    "segmental SNR (dB)": 1,
    "pre-echo (dB)": -1,
}
"""Name to sign: 1 where more is better, -1 where less is."""


@torch.no_grad()
def score(original: NDArray[np.float32], decoded: NDArray[np.float32]) -> dict[str, float]:
    """Measure a decoded recording, its delay taken out, over the length of the shorter; means over channels.

    Shape: [C, N], [C, M]
    """
    n = min(original.shape[1], decoded.shape[1])
    a, b = (torch.from_numpy(np.ascontiguousarray(x[:, :n])) for x in (decoded, original))
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


def unit_counts(aea: Path) -> dict[str, int]:
    """Count sound units, and those whose values take more bits than an encoder may fill."""
    with AeaReader(aea) as reader:
        fields = unpack_units(reader.read())
    used = t.WORD_LENGTHS[fields.idwl] @ t.BFU_SIZES
    return {"units": used.size, "over budget": int((used > np.vectorize(t.value_bits)(fields.n_bfu)).sum())}


def mean(values: list[float]) -> float:
    """Return the mean of those that are numbers; not a number if none is."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
