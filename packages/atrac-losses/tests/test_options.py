"""Options outside their range are refused by every measure, and by its loss as soon as that is made."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import atrac_losses as al


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        (al.segmental_snr, {"frame": 0}, "frame = 0"),
        (al.segmental_snr, {"lowest": 80.0}, "not below"),
        (al.log_spectral_distance, {"n_fft": 1}, "n_fft = 1"),
        (al.log_spectral_distance, {"f_max": 0.0}, "f_max = 0.0 Hz, allowed above 0 and up to 22050.0 Hz"),
        (al.log_spectral_distance, {"f_max": 9000.0, "sample_rate": 16000}, "up to 8000.0 Hz"),
        (al.stft_loss, {"parts": ()}, "parts is empty"),
        (al.multi_resolution_stft_loss, {"resolutions": ()}, "resolutions is empty"),
        (al.multi_resolution_stft_loss, {"resolutions": ((64, 16), (64, 0))}, "hop = 0"),
        (al.mel_distance, {"n_mels": 0}, "n_mels = 0"),
        (al.mel_distance, {"f_min": -1.0}, "f_min = -1.0 Hz"),
        (al.mel_distance, {"f_min": 9000.0, "f_max": 8000.0}, "f_min = 9000.0 Hz, f_max = 8000.0 Hz"),
        (al.mel_distance, {"f_max": 9000.0, "sample_rate": 16000}, "<= 8000.0 Hz"),
        (al.mel_distance, {"n_fft": 512, "n_mels": 128}, "of the bands hold no bin of n_fft = 512"),
        (al.pre_echo, {"block": 0}, "block = 0"),
        (al.pre_echo, {"before": 32}, "before = 32 samples, allowed a multiple of block = 64"),
        (al.pre_echo, {"rise": -1.0}, "rise = -1.0 dB"),
        (al.pre_echo, {"emphasis": 1.1}, "emphasis = 1.1"),
    ],
)
def test_measures_and_losses_refuse_options(
    measure: Callable[..., torch.Tensor], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(torch.ones(4), torch.ones(4), **options)
    with pytest.raises(ValueError, match=message):
        al.Loss(measure, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 1}, "n_fft = 1"),
        ({"f_min": 0.0}, "f_min = 0.0 Hz, f_max = 18000.0 Hz"),
        ({"sample_rate": 32000}, "allowed 0 < f_min < f_max <= 16000.0 Hz"),
        ({"bands_per_bark": 0.0}, "bands_per_bark = 0.0"),
        ({"bands_per_bark": math.inf}, "bands_per_bark = inf"),
        ({"level": math.nan}, "level = nan"),
        ({"spreading": "some"}, "spreading = 'some', allowed 'level', 'fixed', 'none'"),
    ],
)
def test_ear_model_refuses_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        al.EarModel(**options)


def test_loss_refuses_an_unknown_option() -> None:
    with pytest.raises(TypeError, match="n_mel"):
        al.Loss(al.mel_distance, n_mel=40)  # type: ignore[call-arg]
