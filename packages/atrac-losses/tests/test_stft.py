"""STFT losses and their parts against loops over the bins of SciPy's spectra."""

import cmath
import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal as scipy_signal
from torch import Tensor

from atrac_losses import (
    MultiResolutionStftLoss,
    StftLoss,
    StftPart,
    log_magnitude_error,
    multi_resolution_stft_loss,
    phase_error,
    spectral_convergence,
    stft_loss,
)
from atrac_losses.stft import RESOLUTIONS

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of two transforms."""

FLOAT32_TOLERANCE = 1e-3
"""Relative, in float32: a bin at the floor keeps 7 of 24 bits of a loud frame around it."""

PARTS: dict[str, StftPart] = {
    "convergence": spectral_convergence,
    "log magnitude": log_magnitude_error,
    "phase": phase_error,
}

Spectrum = NDArray[np.complex128]


def naive_convergence(estimate: Spectrum, reference: Spectrum, floor: float) -> float:
    above = below = 0.0
    for e, r in zip(estimate.flat, reference.flat):
        above += (abs(e) - abs(r)) ** 2
        below += abs(r) ** 2 + 10.0 ** (floor / 10.0)
    return math.sqrt(above / below)


def naive_log_magnitude(estimate: Spectrum, reference: Spectrum, floor: float) -> float:
    total = 0.0
    for e, r in zip(estimate.flat, reference.flat):
        small = 10.0 ** (floor / 10.0)
        total += abs(math.log(math.sqrt(abs(e) ** 2 + small)) - math.log(math.sqrt(abs(r) ** 2 + small)))
    return total / estimate.size


def naive_phase(estimate: Spectrum, reference: Spectrum, floor: float) -> float:
    above = below = 0.0
    for e, r in zip(estimate.flat, reference.flat):
        small = 10.0 ** (floor / 10.0)
        x, y = e / math.sqrt(abs(e) ** 2 + small), r / math.sqrt(abs(r) ** 2 + small)
        above += abs(r) * abs(x - y) ** 2 / 2.0
        below += abs(r)
    return above / below


NAIVE = {"convergence": naive_convergence, "log magnitude": naive_log_magnitude, "phase": naive_phase}


@pytest.fixture
def pair() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(4)
    reference = rng.normal(0.0, 0.3, (2, 900))
    reference[:, 500:] *= 1e-3
    return reference + rng.normal(0.0, 0.01, reference.shape), reference


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("floor", [-100.0, -40.0])
def test_part_on_our_spectrum_matches_a_loop_on_scipys(
    name: str, floor: float, pair: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    transform = scipy_signal.ShortTimeFFT(scipy_signal.get_window("hann", 64), 16, fs=1.0)

    def spectrum(x: NDArray[np.float64]) -> Spectrum:
        found: Spectrum = transform.stft(x, p0=0, p1=57)  # 57 frames have their centre inside
        return found / 16.0  # the window sums to 32

    expected = [NAIVE[name](spectrum(e), spectrum(r), floor) for e, r in zip(*pair)]
    estimate, reference = (torch.from_numpy(x) for x in pair)
    parts = ((1.0, partial(PARTS[name], floor=floor)),)
    measure = partial(stft_loss, reduction="none", parts=parts, n_fft=64, hop=16)
    np.testing.assert_allclose(measure(estimate, reference).numpy(), expected, rtol=FLOAT64_TOLERANCE)
    singles = measure(estimate.float(), reference.float()).numpy()
    np.testing.assert_allclose(singles, expected, rtol=FLOAT32_TOLERANCE)


@pytest.fixture
def hiss() -> Tensor:
    return torch.randn(4096, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_parts_of_a_gain(hiss: Tensor) -> None:
    each = {name: stft_loss(0.5 * hiss, hiss, parts=((1.0, part),)).item() for name, part in PARTS.items()}
    assert each == pytest.approx({"convergence": 0.5, "log magnitude": math.log(2.0), "phase": 0.0}, abs=1e-6)


def test_parts_of_a_turned_sign(hiss: Tensor) -> None:
    each = {name: stft_loss(-hiss, hiss, parts=((1.0, part),)).item() for name, part in PARTS.items()}
    assert each == pytest.approx({"convergence": 0.0, "log magnitude": 0.0, "phase": 2.0}, abs=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.1, 1.0, math.pi / 2, 3.1, math.pi, 3.2, -3.2, 6.2, 2.0 * math.pi, 100.0])
def test_phase_is_wrapped_by_the_cosine(angle: float) -> None:
    reference = torch.tensor([[0.3 + 0.4j, -1.0 + 0.0j]], dtype=torch.complex128)
    found = phase_error(2.0 * reference * cmath.exp(1j * angle), reference)
    assert found.item() == pytest.approx(1.0 - math.cos(angle), abs=1e-9)


def test_phase_of_silent_bins_does_not_count() -> None:
    generator = torch.Generator().manual_seed(6)
    tone = 0.3 * torch.sin(2.0 * math.pi * 8 * torch.arange(4096, dtype=torch.float64) / 64)
    faint = [1e-6 * torch.randn(4096, generator=generator, dtype=torch.float64) for _ in range(2)]
    measure = partial(stft_loss, parts=((1.0, partial(phase_error, floor=-160.0)),), n_fft=64, hop=16)
    assert measure(tone + faint[0], tone + faint[1]).item() < 1e-3
    assert measure(faint[0], faint[1]).item() > 0.5  # the same bins, with nothing louder beside them


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-20, 1e-5, 1.0])
def test_gradient_is_finite_and_bounded_at_silence(name: str, level: float) -> None:
    spectra = [torch.full((3, 5), x, dtype=torch.complex64, requires_grad=True) for x in (0.0, level)]
    for first, second in (spectra, spectra[::-1]):
        value = PARTS[name](first, second, None)
        assert torch.isfinite(value)
        for slope in torch.autograd.grad(value, (first, second)):
            assert torch.isfinite(torch.view_as_real(slope)).all()
    floor = 10.0 ** (-60.0 / 20.0)
    (slope,) = torch.autograd.grad(PARTS[name](*spectra, None, floor=-60.0), spectra[0])
    assert slope.abs().max() <= 1.001 / floor / 15.0  # a fifteenth of the bins, each at most 1 / floor


def test_several_resolutions_are_averaged(hiss: Tensor) -> None:
    estimate = hiss.roll(1)
    parts = ((1.0, spectral_convergence), (0.5, phase_error))
    each = [stft_loss(estimate, hiss, parts=parts, n_fft=n_fft, hop=hop) for n_fft, hop in RESOLUTIONS]
    found = multi_resolution_stft_loss(estimate, hiss, parts=parts)
    torch.testing.assert_close(found, torch.stack(each).mean())
    alone = [stft_loss(estimate, hiss, parts=((weight, part),)) for weight, part in parts]
    torch.testing.assert_close(stft_loss(estimate, hiss, parts=parts), torch.stack(alone).sum())


def test_a_part_can_be_any_function(hiss: Tensor) -> None:
    def loudest(estimate: Tensor, reference: Tensor, counted: Tensor | None) -> Tensor:
        assert counted is None
        return (estimate - reference).abs().amax(dim=(-1, -2))

    tone = torch.sin(2.0 * math.pi * 8 * torch.arange(4096, dtype=torch.float64) / 64)
    found = stft_loss(hiss + 0.25 * tone, hiss, parts=((1.0, loudest),), n_fft=64, hop=16)
    assert found.item() == pytest.approx(0.25, abs=0.01)


def test_a_resolution_without_a_frame_that_counts_is_left_out(hiss: Tensor) -> None:
    mask = torch.zeros(4096)
    mask[24:40] = 1.0  # no multiple of 512 in it, nor of 64: only the finest resolution has a frame here
    options = {"parts": ((1.0, spectral_convergence),)}
    found = multi_resolution_stft_loss(1.5 * hiss, hiss, mask, resolutions=((2048, 512), (128, 32)), **options)  # type: ignore[arg-type]
    torch.testing.assert_close(found, stft_loss(1.5 * hiss, hiss, mask, n_fft=128, hop=32, **options))  # type: ignore[arg-type]


def test_an_attack_shows_at_a_short_window_and_a_tone_at_a_long_one() -> None:
    time = torch.arange(8192, dtype=torch.float64)
    click, early = torch.zeros(8192, dtype=torch.float64), torch.zeros(8192, dtype=torch.float64)
    click[4096], early[4000] = 1.0, 1.0
    parts = ((1.0, spectral_convergence),)
    short, long = ({"n_fft": n, "hop": n // 4, "parts": parts} for n in (128, 2048))
    assert stft_loss(early, click, **short).item() > 5.0 * stft_loss(early, click, **long).item()  # type: ignore[arg-type]
    high, low = torch.sin(0.31 * time), torch.sin(0.30 * time)
    assert stft_loss(high, low, **long).item() > 2.0 * stft_loss(high, low, **short).item()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_fft": 1}, "n_fft = 1"), ({"hop": 0}, "hop = 0"), ({"parts": ()}, "parts is empty")],
)
def test_stft_loss_refuses_options(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stft_loss(torch.ones(4), torch.ones(4), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        StftLoss(**options)  # type: ignore[arg-type]


def test_multi_resolution_refuses_options() -> None:
    for options, message in (({"resolutions": ()}, "resolutions is empty"), ({"parts": ()}, "parts is empty")):
        with pytest.raises(ValueError, match=message):
            multi_resolution_stft_loss(torch.ones(4), torch.ones(4), **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=message):
            MultiResolutionStftLoss(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hop = 0"):
        MultiResolutionStftLoss(resolutions=((64, 16), (64, 0)))
