"""What every measure of this package must do, as parameters for the contract test and the files beside it."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import atrac_losses as al

PHASE = ((1.0, al.phase_error),)
RESOLUTIONS = ((64, 16), (32, 8))
EAR = al.EarModel(n_fft=64, hop=16, bands_per_bark=1.0)
EVERY_RISE = {"block": 16, "before": 64, "rise": 0.0}
"""Pre-echo that takes each of the small rises in noise for an onset."""

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "mse": al.mse,
    "l1": al.l1,
    "snr": al.snr,
    "si_sdr": al.si_sdr,
    "segmental_snr": al.segmental_snr,
    "log_spectral_distance": partial(al.log_spectral_distance, n_fft=64, hop=16),
    "stft_loss": partial(al.stft_loss, n_fft=64, hop=16),
    "stft_loss of phase": partial(al.stft_loss, parts=PHASE, n_fft=64, hop=16),
    "multi_resolution_stft_loss": partial(al.multi_resolution_stft_loss, resolutions=RESOLUTIONS),
    "mel_distance": partial(al.mel_distance, n_fft=64, hop=16, n_mels=6),
    "pre_echo": partial(al.pre_echo, **EVERY_RISE),
    "nmr": partial(al.nmr, ear=EAR),
}

MODULES: dict[str, Callable[..., nn.Module]] = {
    "mse": al.MeanSquaredError,
    "l1": al.MeanAbsoluteError,
    "snr": al.Snr,
    "si_sdr": al.SiSdr,
    "segmental_snr": al.SegmentalSnr,
    "log_spectral_distance": partial(al.LogSpectralDistance, n_fft=64, hop=16),
    "stft_loss": partial(al.StftLoss, n_fft=64, hop=16),
    "stft_loss of phase": partial(al.StftLoss, parts=PHASE, n_fft=64, hop=16),
    "multi_resolution_stft_loss": partial(al.MultiResolutionStftLoss, resolutions=RESOLUTIONS),
    "mel_distance": partial(al.MelDistance, n_fft=64, hop=16, n_mels=6),
    "pre_echo": partial(al.PreEcho, **EVERY_RISE),
    "nmr": partial(al.NoiseToMaskRatio, ear=EAR),
}

BEST = {"snr": 120.0, "si_sdr": 120.0, "segmental_snr": 80.0, "pre_echo": -100.0, "nmr": -100.0}
"""What equal inputs read; all others are at 0."""

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


@pytest.fixture
def best(name: str) -> float:
    return BEST.get(name, 0.0)
