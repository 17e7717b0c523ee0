"""Each waveform measure against its definition."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_losses import l1, mse, segmental_snr, si_sdr, snr

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: the 120 dB limit moves a ratio of 1e4 by 1e-8 dB at most; all else is rounding."""

FLOAT32_DB = 1e-3
"""dB, in float32: an error at -30 dB keeps 19 of 24 bits."""

Signal = NDArray[np.float64]


def naive_snr(estimate: Signal, reference: Signal) -> float:
    return 10.0 * math.log10(sum(reference**2) / sum((reference - estimate) ** 2))


def naive_si_sdr(estimate: Signal, reference: Signal) -> float:
    return naive_snr(estimate, sum(estimate * reference) / sum(reference**2) * reference)


def naive_segmental_snr(estimate: Signal, reference: Signal, frame: int, lowest: float, highest: float) -> float:
    ratios = []
    for start in range(0, len(reference), frame):
        e, r = estimate[start : start + frame], reference[start : start + frame]
        if sum(r**2) / len(r) >= 1e-8:
            ratios.append(min(max(math.inf if (e == r).all() else naive_snr(e, r), lowest), highest))
    return sum(ratios) / len(ratios)


@pytest.fixture
def pair() -> tuple[Signal, Signal]:
    rng = np.random.default_rng(1)
    reference = rng.normal(0.0, 0.3, (3, 1700))
    estimate = reference + rng.normal(0.0, 0.01, reference.shape)
    reference[:, 512:1024] *= 1e-5  # a silent frame
    estimate[0, :512] = reference[0, :512]  # a perfect one
    estimate[1, 1024:1536] *= -9.0  # a bad one
    return estimate, reference


def segments(frame: int, lowest: float, highest: float) -> tuple[Callable[..., Tensor], Callable[..., float]]:
    options = {"frame": frame, "lowest": lowest, "highest": highest}
    return partial(segmental_snr, **options), partial(naive_segmental_snr, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measure", "naive"),
    [
        (mse, lambda e, r: sum((e - r) ** 2) / len(r)),
        (l1, lambda e, r: sum(abs(e - r)) / len(r)),
        (snr, naive_snr),
        (si_sdr, naive_si_sdr),
        segments(512, -10.0, 80.0),
        segments(100, -10.0, 35.0),
        segments(7, 29.0, 31.0),
    ],
)
def test_measure_is_as_defined(
    measure: Callable[..., Tensor], naive: Callable[[Signal, Signal], float], pair: tuple[Signal, Signal]
) -> None:
    expected = [naive(e, r) for e, r in zip(*pair)]
    doubles = measure(*map(torch.from_numpy, pair), reduction="none")
    np.testing.assert_allclose(doubles.numpy(), expected, rtol=FLOAT64_TOLERANCE)
    singles = measure(*(torch.from_numpy(x).float() for x in pair), reduction="none")
    np.testing.assert_allclose(singles.numpy(), expected, rtol=0, atol=FLOAT32_DB)


def test_ratios_do_not_depend_on_level_and_si_sdr_on_no_gain(pair: tuple[Signal, Signal]) -> None:
    estimate, reference = (torch.from_numpy(x) for x in pair)
    for measure in (snr, si_sdr):
        quiet = measure(1e-4 * estimate, 1e-4 * reference)
        torch.testing.assert_close(quiet, measure(estimate, reference), rtol=1e-6, atol=0)  # TINY_POWER at -80 dBFS
    for gain in (0.01, 20.0, -1.0):
        torch.testing.assert_close(si_sdr(gain * estimate, reference), si_sdr(estimate, reference))


def test_ratios_stop_at_the_limit() -> None:
    x = torch.full((100,), 0.5)
    assert snr(x, x).item() == pytest.approx(120.0, abs=1e-3)
    assert snr(x, torch.zeros(100)).item() == pytest.approx(-120.0, abs=1e-3)
    assert snr(torch.zeros(100), torch.zeros(100)).item() == 0.0
    assert si_sdr(torch.zeros(100), x).item() == pytest.approx(0.0, abs=1e-3)


def test_segmental_snr_leaves_out_a_signal_that_is_silent() -> None:
    reference = torch.stack([torch.full((1024,), 0.5), torch.zeros(1024)])
    estimate = 0.9 * reference + torch.tensor([[0.0], [0.1]])
    assert segmental_snr(estimate, reference).item() == pytest.approx(20.0, abs=FLOAT32_DB)
    assert segmental_snr(estimate, reference, reduction="none")[1] == 0.0


def test_segmental_snr_silence_is_a_power() -> None:
    at_the_edge = torch.full((512,), 10 ** (-79.9 / 20))
    assert segmental_snr(0.9 * at_the_edge, at_the_edge).item() == pytest.approx(20.0, abs=FLOAT32_DB)
    assert segmental_snr(0.9 * at_the_edge, at_the_edge, silence=-79.8).item() == 0.0
