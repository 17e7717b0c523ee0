"""How far a decoded recording is from its original, in a few numbers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from atrac_losses import log_spectral_distance, segmental_snr, snr

_LONGEST_LAG = 4096


def compare(reference: NDArray[np.float32], decoded: NDArray[np.float32]) -> dict[str, float | int]:
    """Measure the difference between two recordings, over the length of the shorter.

    Args:
        reference: the original.
        decoded: what became of it.

    Shape:  [C, N], [C, M]
    Units:  lag in samples (positive: decoded comes later), SNR, segmental SNR and log-spectral distance in dB, mean
            over the channels; peak difference in full scales
    Raises:
        ValueError: the numbers of channels differ.
    """
    if len(reference) != len(decoded):
        raise ValueError(f"{len(reference)} and {len(decoded)} channels, allowed the same number")
    n = min(reference.shape[1], decoded.shape[1])
    a, b = torch.from_numpy(decoded[:, :n].copy()), torch.from_numpy(reference[:, :n].copy())
    return {
        "reference samples": reference.shape[1],
        "decoded samples": decoded.shape[1],
        "lag (samples)": _lag(reference[:, :n], decoded[:, :n]),
        "SNR (dB)": snr(a, b).item(),
        "segmental SNR (dB)": segmental_snr(a, b).item(),
        "log-spectral distance (dB)": log_spectral_distance(a, b).item(),
        "peak difference": float((a - b).abs().max()),
    }


def _lag(reference: NDArray[np.float32], decoded: NDArray[np.float32]) -> int:
    """Find the lag of the largest correlation, looking up to 4096 samples either way."""
    x, y = reference.mean(0, dtype=np.float64), decoded.mean(0, dtype=np.float64)
    size = 1 << (len(x) + _LONGEST_LAG).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(y, size) * np.fft.rfft(x, size).conj(), size)
    longest = min(_LONGEST_LAG, len(x) - 1)
    lags = np.arange(-longest, longest + 1)
    return int(lags[np.argmax(correlation[lags])])
