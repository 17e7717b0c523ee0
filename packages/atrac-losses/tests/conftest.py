"""What every measure of this package must do, as parameters for the contract test and the files beside it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import atrac_losses as al

SHORT = {"n_fft": 64, "hop": 16}
EVERY_RISE = {"block": 16, "before": 64, "rise": 0.0}
"""Pre-echo that takes each of the small rises in noise for an onset."""

MEASURES: dict[str, tuple[Callable[..., Tensor], dict[str, Any], float]] = {
    "mse": (al.mse, {}, 0.0),
    "l1": (al.l1, {}, 0.0),
    "snr": (al.snr, {}, 120.0),
    "si_sdr": (al.si_sdr, {}, 120.0),
    "segmental_snr": (al.segmental_snr, {}, 80.0),
    "log_spectral_distance": (al.log_spectral_distance, SHORT, 0.0),
    "stft_loss": (al.stft_loss, SHORT, 0.0),
    "stft_loss of phase": (al.stft_loss, {"parts": ((1.0, al.phase_error),), **SHORT}, 0.0),
    "multi_resolution_stft_loss": (al.multi_resolution_stft_loss, {"resolutions": ((64, 16), (32, 8))}, 0.0),
    "mel_distance": (al.mel_distance, {"n_mels": 6, **SHORT}, 0.0),
    "pre_echo": (al.pre_echo, EVERY_RISE, -100.0),
    "nmr": (al.nmr, {"ear": al.EarModel(bands_per_bark=1.0, **SHORT)}, -100.0),  # type: ignore[arg-type]
}
"""Each measure, its options in the contract test, and its value for equal inputs."""


@pytest.fixture(params=MEASURES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def measure(name: str) -> Callable[..., Tensor]:
    function, options, _ = MEASURES[name]
    return partial(function, **options)


@pytest.fixture
def loss(name: str) -> Callable[..., al.Loss[...]]:
    function, options, _ = MEASURES[name]
    return partial(al.Loss, function, **options)


@pytest.fixture
def best(name: str) -> float:
    return MEASURES[name][2]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20_260_101)
