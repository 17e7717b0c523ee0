"""Pre-echo against a loop over blocks, and on sounds whose pre-echo is known."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_losses import PreEcho, pre_echo

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding alone."""

FLOAT32_DB = 1e-3
"""dB, in float32: sums of a thousand squares."""

Signal = NDArray[np.float64]


def naive_pre_echo(
    estimate: Signal,
    reference: Signal,
    block: int,
    before: int,
    rise: float,
    silence: float,
    floor: float,
    emphasis: float,
) -> float | None:
    def energies(signal: Signal) -> list[float]:
        raised = [x - emphasis * (signal[n - 1] if n else 0.0) for n, x in enumerate(signal)]
        return [sum(y * y for y in raised[start : start + block]) for start in range(0, len(raised), block)]

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
    ("block", "before", "rise", "silence", "floor", "emphasis"),
    [
        (64, 1024, 10.0, -60.0, -60.0, 0.95),
        (64, 64, 10.0, -60.0, -60.0, 0.0),
        (10, 200, 3.0, -20.0, -20.0, 1.0),
        (1, 3, 15.0, -60.0, -60.0, 0.5),
    ],
)
def test_pre_echo_matches_a_loop_over_blocks(
    block: int, before: int, rise: float, silence: float, floor: float, emphasis: float
) -> None:
    rng = np.random.default_rng(9)
    levels = np.array([[1e-3, 0.5, 0.1, 1e-3, 0.01, 0.5, 1e-5, 0.1], [0.1, 1e-5, 1e-3, 0.01, 0.5, 0.01, 0.3, 1e-3]])
    steps = levels.repeat(400, axis=-1)
    reference = rng.normal(0.0, 1.0, steps.shape) * steps
    estimate = reference + rng.normal(0.0, 0.003, reference.shape)
    settings = (block, before, rise, silence, floor, emphasis)
    expected = [naive_pre_echo(e, r, *settings) for e, r in zip(estimate, reference)]
    assert None not in expected
    names = ("block", "before", "rise", "silence", "floor", "emphasis")
    measure = partial(pre_echo, reduction="none", **dict(zip(names, settings)))
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


def test_moving_noise_from_after_the_attack_to_before_it_raises_pre_echo(attack: Tensor, hiss: Tensor) -> None:
    found = [pre_echo(attack + burst(hiss, ATTACK + shift), attack).item() for shift in (0, -128, -256, -512)]
    assert found == sorted(found)
    assert found[1] > found[0] + 50.0


def test_pre_echo_follows_the_noise_in_db(attack: Tensor, hiss: Tensor) -> None:
    noise = burst(hiss, ATTACK - 512)
    found = [pre_echo(attack + gain * noise, attack).item() for gain in (0.5, 1.0, 2.0)]
    assert found[1] - found[0] == pytest.approx(20.0 * math.log10(2.0), abs=1e-6)
    assert found[2] - found[1] == pytest.approx(20.0 * math.log10(2.0), abs=1e-6)


def test_pre_echo_does_not_depend_on_level(attack: Tensor, hiss: Tensor) -> None:
    estimate = attack + burst(hiss, ATTACK - 512)
    torch.testing.assert_close(pre_echo(0.1 * estimate, 0.1 * attack), pre_echo(estimate, attack))


def test_known_ratio_before_an_attack() -> None:
    reference = torch.cat([torch.full((1024,), 0.01), torch.ones(64)]).double()
    estimate = torch.cat([torch.full((1024,), 0.03), torch.ones(64)]).double()
    bare = 4e-4 / (1e-4 + 1e-6)  # error re sound, and the onset 60 dB down
    assert pre_echo(estimate, reference, emphasis=0.0).item() == pytest.approx(10.0 * math.log10(bare), abs=1e-6)


def test_after_silence_the_floor_is_what_is_allowed() -> None:
    reference = torch.cat([torch.zeros(1024), torch.ones(64)]).double()
    estimate = reference + 1e-3 * (torch.arange(1088) < 1024)
    assert pre_echo(estimate, reference, emphasis=0.0).item() == pytest.approx(0.0, abs=1e-6)
    assert pre_echo(estimate, reference, emphasis=0.0, floor=-40.0).item() == pytest.approx(-20.0, abs=1e-6)


def test_a_signal_without_an_onset_is_left_out(attack: Tensor, hiss: Tensor) -> None:
    steady, silent, faint = 0.3 * hiss, torch.zeros_like(hiss), 1e-3 * attack
    reference = torch.stack([attack, steady, silent, faint])
    estimate = reference + burst(hiss, ATTACK - 512)
    each = pre_echo(estimate, reference, reduction="none")
    assert each[0] > 0
    assert each[1:].tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(pre_echo(estimate, reference), each[0])


def test_an_onset_in_the_estimate_alone_does_not_count(attack: Tensor) -> None:
    assert pre_echo(attack, torch.full_like(attack, 0.3)).item() == 0.0


@pytest.mark.parametrize("start", range(2048, 2048 + 64, 7))
def test_an_attack_is_found_wherever_it_begins_in_its_block(start: int, hiss: Tensor) -> None:
    """A step of 12 dB, 2 above what is asked for; noise that ends 2 blocks before it is before it."""
    reference = torch.where(torch.arange(8192) < start, 0.05, 0.2) * hiss.sign()
    estimate = reference + burst(hiss, start - 640, 512, level=0.1)
    noise = pre_echo(estimate, reference, emphasis=0.0).item()
    assert noise == pytest.approx(10.0 * math.log10(0.1**2 / 0.05**2 / 2.0), abs=1.0)
    assert pre_echo(reference + burst(hiss, start), reference, emphasis=0.0).item() == pytest.approx(-100.0, abs=1e-6)


def test_every_onset_counts_and_the_worst_leads(hiss: Tensor) -> None:
    time = torch.arange(8192)
    reference = hiss * torch.where(time % 4096 < 2048, 0.001, 0.3)  # two onsets, at 2048 and 6144
    one = pre_echo(reference + burst(hiss, 2048 - 512), reference).item()
    both = pre_echo(reference + burst(hiss, 2048 - 512) + burst(hiss, 6144 - 512), reference).item()
    assert both - one == pytest.approx(10.0 * math.log10(2.0), abs=1.0)  # as loud, but other noise


def test_bass_hides_no_attack(hiss: Tensor) -> None:
    time = torch.arange(8192, dtype=torch.float64)
    bass = 0.5 * torch.cos(2.0 * math.pi * 60.0 / 44100.0 * time)
    reference = bass + torch.where(time < ATTACK, 0.0, 0.1) * hiss
    estimate = reference + burst(hiss, ATTACK - 512)
    assert pre_echo(estimate, reference, emphasis=0.0).item() == 0.0  # no onset
    assert pre_echo(estimate, reference).item() > -10.0


def test_what_begins_after_padding_is_no_onset(hiss: Tensor) -> None:
    steady = 0.3 * hiss
    mask = torch.arange(8192) >= ATTACK + 32
    assert pre_echo(1.01 * steady, steady, mask).item() == 0.0
    assert pre_echo(1.01 * steady, torch.where(mask, steady, torch.zeros_like(steady))).item() != 0.0


def test_gradient_lies_before_the_onset_alone(attack: Tensor, hiss: Tensor) -> None:
    estimate = (attack + 0.001 * hiss.flip(0)).requires_grad_()
    (slope,) = torch.autograd.grad(pre_echo(estimate, attack), estimate)
    looked_at = slice(ATTACK - 64 - 1024, ATTACK - 64)
    assert (slope[looked_at] != 0).all()
    assert (slope[: looked_at.start - 1] == 0).all()  # but one sample, through the emphasis
    assert (slope[looked_at.stop :] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 0}, "block = 0"),
        ({"before": 32}, "before = 32 samples, allowed a multiple of block = 64"),
        ({"before": 100}, "before = 100 samples"),
        ({"rise": -1.0}, "rise = -1.0 dB"),
        ({"emphasis": 1.1}, "emphasis = 1.1"),
    ],
)
def test_pre_echo_refuses_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pre_echo(torch.ones(4), torch.ones(4), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        PreEcho(**options)  # type: ignore[arg-type]
