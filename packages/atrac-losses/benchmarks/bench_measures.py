"""Time one forward and backward pass of each measure: pytest benchmarks/bench_measures.py."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from atrac_losses import (
    EarModel,
    l1,
    log_spectral_distance,
    mel_distance,
    mse,
    multi_resolution_stft_loss,
    nmr,
    phase_error,
    pre_echo,
    segmental_snr,
    si_sdr,
    snr,
    stft_loss,
)

TRAINING_EAR = EarModel(n_fft=1024, hop=512, bands_per_bark=2.0)
MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "l1": l1,
    "snr": snr,
    "si_sdr": si_sdr,
    "segmental_snr": segmental_snr,
    "log_spectral_distance": log_spectral_distance,
    "stft_loss": stft_loss,
    "stft_loss of phase": partial(stft_loss, parts=((1.0, phase_error),)),
    "multi_resolution_stft_loss": multi_resolution_stft_loss,
    "mel_distance": mel_distance,
    "pre_echo": pre_echo,
    "nmr": nmr,
    "nmr for training": partial(nmr, ear=TRAINING_EAR),
}


@pytest.mark.parametrize("name", MEASURES)
def test_forward_and_backward(benchmark: Any, name: str) -> None:
    measure = MEASURES[name]
    reference = 0.3 * torch.randn(16, 65536, generator=torch.Generator().manual_seed(0))
    estimate = (0.99 * reference).requires_grad_()
    benchmark(lambda: torch.autograd.grad(measure(estimate, reference), estimate))
