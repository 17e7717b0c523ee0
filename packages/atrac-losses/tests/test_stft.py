"""STFT losses and their parts against their definitions on SciPy's spectra."""

import cmath
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal as scipy_signal
from torch import Tensor

from atrac_losses import (
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

Spectrum = NDArray[np.complex128]


def naive_convergence(e: Spectrum, r: Spectrum, small: float) -> float:
    return math.sqrt(((abs(e) - abs(r)) ** 2).sum() / (abs(r) ** 2 + small).sum())


def naive_log_magnitude(e: Spectrum, r: Spectrum, small: float) -> float:
    levels = [np.log(np.sqrt(abs(x) ** 2 + small)) for x in (e, r)]
    return float(abs(levels[0] - levels[1]).mean())


def naive_phase(e: Spectrum, r: Spectrum, small: float) -> float:
    points = [x / np.sqrt(abs(x) ** 2 + small) for x in (e, r)]
    return float((abs(r) * abs(points[0] - points[1]) ** 2 / 2.0).sum() / abs(r).sum())


PARTS: dict[str, tuple[Callable[..., Tensor], Callable[[Spectrum, Spectrum, float], float]]] = {
    "convergence": (spectral_convergence, naive_convergence),
    "log magnitude": (log_magnitude_error, naive_log_magnitude),
    "phase": (phase_error, naive_phase),
}


@pytest.fixture
def pair() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(4)
    reference = rng.normal(0.0, 0.3, (2, 900))
    reference[:, 500:] *= 1e-3
    return reference + rng.normal(0.0, 0.01, reference.shape), reference


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("floor", [-100.0, -40.0])
def test_part_matches_its_definition_on_scipys_spectrum(
    name: str, floor: float, pair: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    part, naive = PARTS[name]
    transform = scipy_signal.ShortTimeFFT(scipy_signal.get_window("hann", 64), 16, fs=1.0)

    def spectrum(x: NDArray[np.float64]) -> Spectrum:
        found: Spectrum = transform.stft(x, p0=0, p1=57)  # 57 frames have their centre inside
        return found / 16.0  # the window sums to 32

    expected = [naive(spectrum(e), spectrum(r), 10.0 ** (floor / 10.0)) for e, r in zip(*pair)]
    estimate, reference = (torch.from_numpy(x) for x in pair)
    parts = ((1.0, partial(part, floor=floor)),)
    measure = partial(stft_loss, reduction="none", parts=parts, n_fft=64, hop=16)
    np.testing.assert_allclose(measure(estimate, reference).numpy(), expected, rtol=FLOAT64_TOLERANCE)
    singles = measure(estimate.float(), reference.float()).numpy()
    np.testing.assert_allclose(singles, expected, rtol=FLOAT32_TOLERANCE)


@pytest.fixture
def hiss() -> Tensor:
    return torch.randn(4096, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("angle", [0.0, 0.1, math.pi / 2, math.pi, -3.2, 6.2, 2.0 * math.pi, 100.0])
def test_phase_is_wrapped_by_the_cosine(angle: float) -> None:
    reference = torch.tensor([[0.3 + 0.4j, -1.0 + 0.0j]], dtype=torch.complex128)
    found = phase_error(2.0 * reference * cmath.exp(1j * angle), reference)
    assert found.item() == pytest.approx(1.0 - math.cos(angle), abs=1e-9)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-20, 1e-5, 1.0])
def test_gradient_is_finite_and_bounded_at_silence(name: str, level: float) -> None:
    part, _ = PARTS[name]
    spectra = [torch.full((3, 5), x, dtype=torch.complex64, requires_grad=True) for x in (0.0, level)]
    for first, second in (spectra, spectra[::-1]):
        value = part(first, second, None)
        assert torch.isfinite(value)
        for slope in torch.autograd.grad(value, (first, second)):
            assert torch.isfinite(torch.view_as_real(slope)).all()
    floor = 10.0 ** (-60.0 / 20.0)
    (slope,) = torch.autograd.grad(part(*spectra, None, floor=-60.0), spectra[0])
    assert slope.abs().max() <= 1.001 / floor / 15.0  # a fifteenth of the bins, each at most 1 / floor


def test_several_resolutions_are_averaged(hiss: Tensor) -> None:
    estimate = hiss.roll(1)
    parts = ((1.0, spectral_convergence), (0.5, phase_error))
    each = [stft_loss(estimate, hiss, parts=parts, n_fft=n_fft, hop=hop) for n_fft, hop in RESOLUTIONS]
    found = multi_resolution_stft_loss(estimate, hiss, parts=parts)
    torch.testing.assert_close(found, torch.stack(each).mean())
    alone = [stft_loss(estimate, hiss, parts=((weight, part),)) for weight, part in parts]
    torch.testing.assert_close(stft_loss(estimate, hiss, parts=parts), torch.stack(alone).sum())


def test_a_resolution_without_a_frame_that_counts_is_left_out(hiss: Tensor) -> None:
    mask = torch.zeros(4096)
    mask[24:40] = 1.0  # no multiple of 512 in it, nor of 64: only the finest resolution has a frame here
    options = {"parts": ((1.0, spectral_convergence),)}
    found = multi_resolution_stft_loss(1.5 * hiss, hiss, mask, resolutions=((2048, 512), (128, 32)), **options)  # type: ignore[arg-type]
    torch.testing.assert_close(found, stft_loss(1.5 * hiss, hiss, mask, n_fft=128, hop=32, **options))  # type: ignore[arg-type]
