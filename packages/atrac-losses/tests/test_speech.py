"""STOI and PESQ: what the packages say, with this package's shapes, masks and refusals."""

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


def voice(seed: int, seconds: float = 2.0) -> Tensor:
    """A hum with formants that comes and goes in syllables, over faint noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * RATE)) / RATE
    pitch = 120.0 + 20.0 * torch.sin(2.0 * math.pi * 0.7 * time)
    phase = 2.0 * math.pi * torch.cumsum(pitch, 0) / RATE
    hum = sum((torch.sin(k * phase) / (1.0 + abs(k - 5)) for k in range(1, 25)), torch.zeros_like(time))
    syllables = torch.sin(2.0 * math.pi * 2.0 * time).clamp(min=0.0)
    return 0.1 * hum * syllables + 1e-4 * torch.randn(len(time), generator=generator)


def noise(seed: int, like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


MEASURES: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "stoi": ("pystoi", partial(stoi, sample_rate=RATE)),
    "extended stoi": ("pystoi", partial(stoi, sample_rate=RATE, extended=True)),
    "wide pesq": ("pesq", pesq),
    "narrow pesq": ("pesq", partial(pesq, band="narrow")),
}


@pytest.fixture(params=MEASURES)
def measure(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    package, function = MEASURES[request.param]
    pytest.importorskip(package)
    return function


def test_more_noise_is_worse_and_equal_signals_are_best(measure: Callable[..., Tensor]) -> None:
    clean = voice(1)
    values = [measure(clean + level * noise(2, clean), clean).item() for level in (0.1, 0.01, 0.001, 0.0)]
    assert values == sorted(values)
    assert values[0] < values[-1] - 0.2


def test_value_is_the_packages() -> None:
    package = pytest.importorskip("pystoi")
    clean = voice(1)
    estimate = clean + 0.03 * noise(2, clean)
    expected = package.stoi(clean.double().numpy(), estimate.double().numpy(), RATE)
    assert stoi(estimate, clean, sample_rate=RATE).item() == pytest.approx(expected, abs=1e-6)


def test_grade_is_the_packages() -> None:
    package = pytest.importorskip("pesq")
    clean = voice(1)
    estimate = clean + 0.03 * noise(2, clean)
    for band, mode in (("wide", "wb"), ("narrow", "nb")):
        expected = package.pesq(RATE, clean.double().numpy(), estimate.double().numpy(), mode)
        assert pesq(estimate, clean, band=band).item() == pytest.approx(expected, abs=1e-6)  # type: ignore[arg-type]


def test_shapes_masks_and_reductions(measure: Callable[..., Tensor]) -> None:
    clean = torch.stack([voice(1), voice(2)]).reshape(2, 1, -1)
    estimate = clean + 0.03 * noise(3, clean)
    mask = torch.arange(clean.shape[-1]) < torch.tensor([[[clean.shape[-1]]], [[20000]]])
    each = measure(estimate.masked_fill(~mask, float("nan")), clean, mask, "none")
    assert each.shape == (2, 1)
    assert each.dtype == torch.float32
    torch.testing.assert_close(each[1, 0], measure(estimate[1, 0, :20000], clean[1, 0, :20000]))
    torch.testing.assert_close(measure(estimate, clean, mask), each.mean())
    torch.testing.assert_close(measure(estimate, clean, mask, "sum"), each.sum())


def test_there_is_no_gradient(measure: Callable[..., Tensor]) -> None:
    clean = voice(1)
    estimate = (clean + 0.03 * noise(2, clean)).requires_grad_()
    assert not measure(estimate, clean).requires_grad


def test_what_holds_no_speech_is_left_out(measure: Callable[..., Tensor]) -> None:
    clean = torch.stack([voice(1), torch.zeros(2 * RATE), voice(1)])
    estimate = clean + 0.03 * noise(2, clean)
    mask = torch.arange(2 * RATE) < torch.tensor([[2 * RATE], [2 * RATE], [1000]])
    each = measure(estimate, clean, mask, "none")
    assert each[0] > 0
    assert each[1:].tolist() == [0.0, 0.0]
    torch.testing.assert_close(measure(estimate, clean, mask), each[0])
    assert measure(estimate[..., :10], clean[..., :10]).item() == 0.0


def test_a_silent_estimate_is_worst(measure: Callable[..., Tensor]) -> None:
    clean = voice(1)
    assert measure(torch.zeros_like(clean), clean) < measure(clean + 0.1 * noise(2, clean), clean)


def test_stoi_resamples() -> None:
    pytest.importorskip("pystoi")
    clean = voice(1)
    estimate = clean + 0.01 * noise(2, clean)
    low, high = stoi(estimate, clean, sample_rate=RATE), stoi(estimate, clean, sample_rate=44100)
    assert high != low  # the same samples, taken for faster ones
    with pytest.raises(ValueError, match=r"sample_rate = 44100\.5 Hz"):
        stoi(estimate, clean, sample_rate=44100.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 44100}, "sample_rate = 44100 Hz, allowed 16000 Hz for wide band; resample first"),
        ({"sample_rate": 8000}, "allowed 16000 Hz for wide band"),
        ({"sample_rate": 44100, "band": "narrow"}, "allowed 8000 or 16000 Hz for narrow band"),
        ({"band": "full"}, "band = 'full', allowed 'wide', 'narrow'"),
    ],
)
def test_pesq_refuses_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pesq(torch.ones(RATE), torch.ones(RATE), **options)


@pytest.mark.parametrize(("function", "package"), [(stoi, "pystoi"), (pesq, "pesq")])
def test_a_missing_package_names_the_extra(
    function: Callable[..., Tensor], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"the package {package} is missing: pip install atrac-losses\[speech\]"):
        function(torch.ones(RATE), torch.ones(RATE))


def test_wrong_reductions_are_refused_before_any_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(ValueError, match="'mean', 'sum', 'none'"):
        stoi(torch.ones(4), torch.ones(4), reduction="median")  # type: ignore[arg-type]
