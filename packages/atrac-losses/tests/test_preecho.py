"""Pre-echo against a loop over blocks, and on sounds whose pre-echo is known."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_losses import pre_echo

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding alone."""

FLOAT32_DB = 1e-3
"""dB, in float32: sums of a thousand squares."""

Signal = NDArray[np.float64]


OPTIONS = ("block", "before", "rise", "silence", "floor", "emphasis")


def naive_pre_echo(estimate: Signal, reference: Signal, options: dict[str, Any]) -> float | None:
    block, before, rise, silence, floor, emphasis = (options[name] for name in OPTIONS)

    def energies(signal: Signal) -> list[float]:
        raised = signal - emphasis * np.concatenate([[0.0], signal[:-1]])
        return [sum(raised[start : start + block] ** 2) for start in range(0, len(raised), block)]

    error, sound = energies(estimate - reference), energies(reference)
    ratios = []
    stood_out = False
    for b in range(1, len(sound)):
        past = range(max(0, b - before // block), b)
        attack = max(sound[b : b + 2])
        is_loud = attack >= block * 10.0 ** (silence / 10.0)
        stands_out = is_loud and all(attack >= 10.0 ** (rise / 10.0) * sound[p] for p in past)
        if stands_out and not stood_out:
            allowed = sum(sound[p] + 10.0 ** (floor / 10.0) * attack for p in past)
            ratios.append(sum(error[p] for p in past) / allowed)
        stood_out = stands_out
    return 10.0 * math.log10(sum(ratios) / len(ratios) + 1e-10) if ratios else None


@pytest.mark.parametrize(
    "values",
    [
        (64, 1024, 10.0, -60.0, -60.0, 0.95),
        (64, 64, 10.0, -60.0, -60.0, 0.0),
        (10, 200, 3.0, -20.0, -20.0, 1.0),
        (1, 3, 15.0, -60.0, -60.0, 0.5),
    ],
)
def test_pre_echo_matches_a_loop_over_blocks(values: tuple[float, ...]) -> None:
    rng = np.random.default_rng(9)
    levels = np.array([[1e-3, 0.5, 0.1, 1e-3, 0.01, 0.5, 1e-5, 0.1], [0.1, 1e-5, 1e-3, 0.01, 0.5, 0.01, 0.3, 1e-3]])
    steps = levels.repeat(400, axis=-1)
    reference = rng.normal(0.0, 1.0, steps.shape) * steps
    estimate = reference + rng.normal(0.0, 0.003, reference.shape)
    options: dict[str, Any] = dict(zip(OPTIONS, values))
    expected = [naive_pre_echo(e, r, options) for e, r in zip(estimate, reference)]
    assert None not in expected
    measure = partial(pre_echo, reduction="none", **options)
    e, r = torch.from_numpy(estimate), torch.from_numpy(reference)
    np.testing.assert_allclose(measure(e, r).numpy(), expected, rtol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(measure(e.float(), r.float()).numpy(), expected, rtol=0, atol=FLOAT32_DB)


ATTACK = 4096


@pytest.fixture
def hiss() -> Tensor:
    return torch.randn(8192, generator=torch.Generator().manual_seed(10), dtype=torch.float64)


@pytest.fixture
def attack(hiss: Tensor) -> Tensor:
    """Faint noise, then from sample 4096 on loud noise that dies away."""
    time = torch.arange(8192, dtype=torch.float64) - ATTACK
    return hiss * torch.where(time < 0, torch.full_like(time, 0.001), 0.3 * torch.exp(-time / 2000.0))


def burst(hiss: Tensor, start: int, length: int = 512, level: float = 0.01) -> Tensor:
    noise = torch.zeros_like(hiss)
    noise[start : start + length] = level * hiss.flip(0)[start : start + length]
    return noise


def test_noise_counts_before_the_attack_and_not_after(attack: Tensor, hiss: Tensor) -> None:
    clean = pre_echo(attack, attack).item()
    before = pre_echo(attack + burst(hiss, ATTACK - 512), attack).item()
    after = pre_echo(attack + burst(hiss, ATTACK), attack).item()
    far = pre_echo(attack + burst(hiss, ATTACK - 2048), attack).item()  # over 1024 samples before
    assert clean == pytest.approx(-100.0, abs=1e-6)
    assert before == pytest.approx(16.0, abs=1.5)  # 40 dB in half of the samples, re faint noise and a floor at -60 dB
    assert after == far == clean


def test_a_signal_without_an_onset_is_left_out(attack: Tensor, hiss: Tensor) -> None:
    steady, silent, faint = 0.3 * hiss, torch.zeros_like(hiss), 1e-3 * attack
    reference = torch.stack([attack, steady, silent, faint])
    estimate = reference + burst(hiss, ATTACK - 512)
    each = pre_echo(estimate, reference, reduction="none")
    assert each[0] > 0
    assert each[1:].tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(pre_echo(estimate, reference), each[0])
    assert pre_echo(attack, torch.full_like(attack, 0.3)).item() == 0.0  # an onset in the estimate alone


@pytest.mark.parametrize("start", range(2048, 2048 + 64, 21))
def test_an_attack_is_found_wherever_it_begins_in_its_block(start: int, hiss: Tensor) -> None:
    """A step of 12 dB, 2 above what is asked for; noise that ends 2 blocks before it is before it."""
    reference = torch.where(torch.arange(8192) < start, 0.05, 0.2) * hiss.sign()
    estimate = reference + burst(hiss, start - 640, 512, level=0.1)
    noise = pre_echo(estimate, reference, emphasis=0.0).item()
    assert noise == pytest.approx(10.0 * math.log10(0.1**2 / 0.05**2 / 2.0), abs=1.0)
    assert pre_echo(reference + burst(hiss, start), reference, emphasis=0.0).item() == pytest.approx(-100.0, abs=1e-6)


def test_what_begins_after_padding_is_no_onset(hiss: Tensor) -> None:
    steady = 0.3 * hiss
    mask = torch.arange(8192) >= ATTACK + 32
    assert pre_echo(1.01 * steady, steady, mask).item() == 0.0
    assert pre_echo(1.01 * steady, torch.where(mask, steady, torch.zeros_like(steady))).item() != 0.0
