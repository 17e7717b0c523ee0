"""What every measure of this package must do, as parameters for the contract test and the files beside it."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import atrac_losses as al

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "mse": al.mse,
    "l1": al.l1,
    "snr": al.snr,
    "si_sdr": al.si_sdr,
    "segmental_snr": al.segmental_snr,
    "log_spectral_distance": partial(al.log_spectral_distance, n_fft=64, hop=16),
}

MODULES: dict[str, Callable[..., nn.Module]] = {
    "mse": al.MeanSquaredError,
    "l1": al.MeanAbsoluteError,
    "snr": al.Snr,
    "si_sdr": al.SiSdr,
    "segmental_snr": al.SegmentalSnr,
    "log_spectral_distance": partial(al.LogSpectralDistance, n_fft=64, hop=16),
}

HIGHER_IS_BETTER = {"snr", "si_sdr", "segmental_snr"}


@pytest.fixture(params=FUNCTIONS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def measure(name: str) -> Callable[..., Tensor]:
    return FUNCTIONS[name]


@pytest.fixture
def module(name: str) -> Callable[..., nn.Module]:
    return MODULES[name]


@pytest.fixture
def sign(name: str) -> float:
    """What turns the function's value into the module's."""
    return -1.0 if name in HIGHER_IS_BETTER else 1.0


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20_260_101)
