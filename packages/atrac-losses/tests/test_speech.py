"""STOI and PESQ: the values of the packages, with this package's shapes, masks and refusals."""

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from atrac_losses import pesq, stoi

RATE = 16000


@pytest.fixture(scope="module")
def clean() -> Tensor:
    """A hum with formants that comes and goes in syllables, over faint noise."""
    time = torch.arange(2 * RATE) / RATE
    phase = 2.0 * math.pi * torch.cumsum(120.0 + 20.0 * torch.sin(2.0 * math.pi * 0.7 * time), 0) / RATE
    hum = sum((torch.sin(k * phase) / (1.0 + abs(k - 5)) for k in range(1, 25)), torch.zeros_like(time))
    return 0.1 * hum * torch.sin(4.0 * math.pi * time).clamp(min=0.0) + 1e-4 * noise(1, time)


def noise(seed: int, like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


MEASURES: dict[str, tuple[str, Callable[..., Tensor], Callable[..., float]]] = {
    "stoi": ("pystoi", partial(stoi, sample_rate=RATE), lambda p, e, r: p.stoi(r, e, RATE, False)),
    "extended": ("pystoi", partial(stoi, sample_rate=RATE, extended=True), lambda p, e, r: p.stoi(r, e, RATE, True)),
    "wide pesq": ("pesq", pesq, lambda p, e, r: p.pesq(RATE, r, e, "wb")),
    "narrow pesq": ("pesq", partial(pesq, band="narrow"), lambda p, e, r: p.pesq(RATE, r, e, "nb")),
}


@pytest.fixture(params=MEASURES)
def name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(MEASURES[request.param][0])
    return str(request.param)


def test_value_is_the_packages_and_more_noise_is_worse(name: str, clean: Tensor) -> None:
    package, measure, expected = MEASURES[name]
    estimates = [torch.zeros_like(clean), *(clean + level * noise(2, clean) for level in (0.1, 0.01, 0.001, 0.0))]
    values = [measure(estimate.requires_grad_(), clean) for estimate in estimates]
    assert not any(value.requires_grad for value in values)
    assert values == sorted(values)
    assert values[1] < values[-1] - 0.2
    signals = (x.detach().double().numpy() for x in (estimates[1], clean))
    assert values[1].item() == pytest.approx(expected(pytest.importorskip(package), *signals), abs=1e-6)


def test_shapes_masks_and_signals_without_speech(name: str, clean: Tensor) -> None:
    measure = MEASURES[name][1]
    reference = torch.stack([clean, clean.flip(0), torch.zeros_like(clean), clean]).reshape(2, 2, -1)
    estimate = reference + 0.03 * noise(3, reference)
    lengths = torch.tensor([[2 * RATE, 20000], [2 * RATE, 1000]])
    mask = torch.arange(2 * RATE) < lengths.unsqueeze(-1)
    each = measure(estimate.masked_fill(~mask, float("nan")), reference, mask, "none")
    assert each.shape == (2, 2)
    assert each.dtype == torch.float32
    torch.testing.assert_close(each[0, 1], measure(estimate[0, 1, :20000], reference[0, 1, :20000]))
    assert each[1].tolist() == [0.0, 0.0]  # silence, and too short
    torch.testing.assert_close(measure(estimate, reference, mask), each[0].mean())
    torch.testing.assert_close(measure(estimate, reference, mask, "sum"), each.sum())


def test_stoi_resamples_and_needs_sound_in_the_reference(clean: Tensor) -> None:
    pytest.importorskip("pystoi")
    estimate = clean + 0.01 * noise(2, clean)
    assert stoi(estimate, clean, sample_rate=44100) != stoi(estimate, clean, sample_rate=RATE)
    click = torch.zeros_like(clean)
    click[4000:4100] = 0.1
    assert stoi(estimate, click, sample_rate=RATE) == 0.0


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        (pesq, {"sample_rate": 44100}, "sample_rate = 44100 Hz, allowed 16000 Hz for wide band; resample first"),
        (pesq, {"sample_rate": 8000}, "allowed 16000 Hz for wide band"),
        (pesq, {"sample_rate": 44100, "band": "narrow"}, "allowed 8000 or 16000 Hz for narrow band"),
        (pesq, {"band": "full"}, "band = 'full', allowed 'wide', 'narrow'"),
        (stoi, {"sample_rate": 44100.5}, r"sample_rate = 44100\.5 Hz"),
        (stoi, {"reduction": "median"}, "'mean', 'sum', 'none'"),
    ],
)
@pytest.mark.parametrize("package", ["pystoi", "pesq"])
def test_options_are_refused_before_a_missing_package_which_names_the_extra(
    measure: Callable[..., Tensor], options: dict[str, Any], message: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=message):
        measure(torch.ones(RATE), torch.ones(RATE), **options)
    missing = {"pystoi": stoi, "pesq": pesq}[package]
    with pytest.raises(ImportError, match=rf"the package {package} is missing: pip install atrac-losses\[speech\]"):
        missing(torch.ones(RATE), torch.ones(RATE))
