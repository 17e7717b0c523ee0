from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import atrac_modules as m
from atrac_bitstream.tables import BFU_AMOUNTS, BFU_SIZES
from atrac_modules.allocator import _BOOSTED, _FIXED_LONG, _FIXED_SHORT
from atrac_modules.bfu import carries
from atrac_modules.hearing_threshold import _FRANK, hearing_threshold
from atrac_modules.loudness import START


def taught() -> m.NeuralAllocator:
    """Return the learned stage with the reference codec's rules."""
    stage = m.NeuralAllocator()
    with torch.no_grad():
        stage.slopes.copy_(torch.tensor([1 / 3.2, 0.0]))
        stage.tables.zero_()
        stage.tables[1].copy_(torch.from_numpy(np.stack([_FIXED_LONG, _FIXED_SHORT])))
        # The features are mean and standard deviation over 10, the share is the standard deviation over 14.
        stage.gate.weight.copy_(torch.tensor([[0.0, 10 / 14]]))
        stage.gate.bias.zero_()
        stage.threshold.copy_(torch.from_numpy(hearing_threshold()).double().log2())
        stage.spare_rank.fill_(2.0)
        stage.spare_rank[list(_BOOSTED)] = torch.linspace(0, 1, len(_BOOSTED))
    return stage


STAGES = [
    m.ReferenceAllocator,
    m.BitExactAllocator,
    m.NeuralAllocator,
    m.RateDistortionAllocator,
    functools.partial(m.RateDistortionAllocator, exponent=0.0),
    m.NeuralRateDistortionAllocator,
    functools.partial(m.NeuralRateDistortionAllocator, hidden=8),
]
SEARCHES = (m.RateDistortionAllocator, m.NeuralRateDistortionAllocator)
"""Those that may change the scale factors."""
LIKE_REFERENCE = [m.ReferenceAllocator, m.BitExactAllocator, taught]
"""Those that decide as the reference codec does."""
LOUDNESSES = (None, torch.full((3, 10), 1e-6), torch.full((3, 10), 1e3))


def check_legal(stage: m.Allocator, spectrum: torch.Tensor, idsf: torch.Tensor, bsm: torch.Tensor) -> None:
    """Check everything that the role promises, at several loudnesses."""
    for loudness in LOUDNESSES:
        result = stage(spectrum, idsf, bsm, loudness)
        assert set(result.n_bfu.unique().tolist()) <= set(map(float, BFU_AMOUNTS))
        assert torch.equal(result.idwl, result.idwl.round().clamp(0, 15))
        assert not (result.idwl * ~carries(result.n_bfu)).any()
        assert (m.used_value_bits(result.idwl) <= m.value_bits(result.n_bfu)).all()
        if isinstance(stage, SEARCHES):
            assert torch.equal(result.idsf, result.idsf.round().clamp(0, 63))
            assert torch.equal(result.idsf[result.idwl == 0], idsf[result.idwl == 0])
            assert (result.idsf - idsf).abs().max() <= 3
        else:
            assert result.idsf is idsf


@pytest.mark.parametrize("stage", STAGES)
def test_allocator_keeps_the_contract(stage: type[m.Allocator], build, keeps_contract, sound_units):
    keeps_contract(build(stage), sound_units, ((10,), (10, 52), (10, 52)))
    check_legal(build(stage), *sound_units)


@pytest.mark.parametrize("seed", range(8))
def test_allocations_are_legal_for_any_weights(seed: int, build, sound_units):
    spectrum, idsf, bsm = sound_units
    stage = build(m.NeuralAllocator, seed)
    with torch.no_grad():  # from small to absurd, and from all BFUs boosted to next to none
        stage.tables *= 4.0 ** (seed % 5)
        stage.spare_rank += 0.15 * seed
    check_legal(stage, spectrum, idsf.clone().requires_grad_(), bsm)


@pytest.mark.parametrize(("scale", "hidden"), [(0.1, 8), (5.0, 8), (125.0, 0)])
@pytest.mark.parametrize("level", [1e-30, 4.0])
def test_searched_allocations_are_legal_for_any_weights(level: float, scale: float, hidden: int, build, sound_units):
    spectrum, bsm = (level * sound_units[0]).clamp(-2, 2), sound_units[2]
    stage = build(m.NeuralRateDistortionAllocator, hidden=hidden)
    with torch.no_grad():
        for weight in stage.parameters():
            weight += scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    check_legal(stage, spectrum, m.ReferenceScaler()(spectrum, bsm), bsm)


@pytest.mark.parametrize("stage", LIKE_REFERENCE)
def test_allocator_equals_golden(stage, golden):
    loudness = m.BitExactLoudness()(golden.mdct[None], golden.bsm[None]).loudness
    result = stage()(golden.mdct, golden.idsf, golden.bsm, loudness.expand(len(golden.mdct), -1))
    assert torch.equal(result.n_bfu, torch.tensor(BFU_AMOUNTS)[golden.bfu_amount_idx.long()].float())
    assert torch.equal(result.idwl, golden.idwl)


def test_tables_have_the_reference_codecs_values():
    assert len(_FIXED_LONG) == len(_FIXED_SHORT) == 52
    assert (_FIXED_LONG.sum(), _FIXED_SHORT.sum()) == (236, 236)
    assert (_FIXED_LONG[[0, 2, 3, 21, 22, 34, 35, 51]] == [7, 7, 6, 6, 5, 5, 4, 0]).all()
    assert (_FIXED_SHORT[[0, 23, 24, 35, 36, 43, 44]] == [6, 6, 5, 5, 4, 4, 0]).all()
    assert (len(_FRANK), _FRANK[0], min(_FRANK), _FRANK[-1]) == (140, 9669, -535, 9999)


def test_hearing_threshold_is_lowest_near_4_kilohertz_and_worked_out_at_one_bfu():
    threshold = hearing_threshold()
    assert threshold.shape == (52,)
    assert int(np.argmin(threshold)) == 13, "coefficients 86 to 91, 3.7 to 4 kHz"
    # The first coefficient lies at 22.05 / 512 kHz; by hand for the last of BFU 0, the eighth, 344.5 Hz.
    position = 40 * np.log10(34.453125)
    index = int(position)
    frank = 0.01 * (_FRANK[index] * (1 + index - position) + _FRANK[index + 1] * (position - index))
    by_hand = 10 ** (0.1 * (frank - 100 - 0.015 * 0.34453125**2))
    assert threshold[0] == pytest.approx(by_hand, rel=1e-5)


def test_inaudible_bfus_with_long_blocks_have_no_bits_but_those_with_short_ones_do():
    spectrum = torch.full((2, 512), 1e-7)
    spectrum[:, :128] = 0.1
    bsm = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 3.0]])
    result = m.ReferenceAllocator()(spectrum, m.ReferenceScaler()(spectrum, bsm), bsm, torch.full((2,), 1e6))
    assert result.idwl[0, 23:32].sum() == 0
    assert result.n_bfu[1] >= result.n_bfu[0]


def test_slope_is_that_of_desired_bits_minus_their_mean(in_float64, generator, slopes_are_differences):
    spectrum = 0.5 * torch.rand(1, 512, generator=generator, dtype=torch.float64)
    bsm, stage = torch.zeros(1, 3, dtype=torch.float64), m.ReferenceAllocator()
    idsf = torch.nn.Parameter((m.ReferenceScaler()(spectrum, bsm) - torch.arange(52.0) / 3).round())
    n, weight = int(stage(spectrum, idsf, bsm).n_bfu), torch.randn(52, generator=generator, dtype=torch.float64)
    sizes = torch.from_numpy(BFU_SIZES)[:n].double()

    def soft() -> torch.Tensor:
        spread = idsf.std(correction=0).clamp_max(14) / 14
        desired = (spread * idsf[0] / 3.2 + (1 - spread) * torch.from_numpy(_FIXED_LONG))[:n]
        return (weight[:n] * (desired - (desired * sizes).sum() / sizes.sum())).sum()

    slopes_are_differences([idsf], soft, hard=lambda: (weight * stage(spectrum, idsf, bsm).idwl[0]).sum())


@pytest.mark.parametrize("stage", [m.ReferenceAllocator, m.NeuralAllocator])
def test_slopes_are_finite_when_all_scale_factors_are_alike(stage, build):
    idsf = torch.full((1, 52), 40.0, requires_grad=True)
    module = build(stage)
    module(torch.full((1, 512), 0.005), idsf, torch.zeros(1, 3)).idwl.square().sum().backward()
    assert torch.isfinite(idsf.grad).all()
    assert all(w.grad is None or torch.isfinite(w.grad).all() for w in module.parameters())


def test_neural_allocator_with_the_reference_rules_is_the_reference_in_slope_too(in_float64, sound_units):
    spectrum, idsf, bsm = (x.double() for x in sound_units)
    stages, weight = (taught(), m.ReferenceAllocator()), torch.linspace(-1, 2, 52)
    for loudness in LOUDNESSES:
        got, want = (stage(spectrum, idsf, bsm, loudness) for stage in stages)
        assert torch.equal(got.n_bfu, want.n_bfu)
        assert torch.equal(got.idwl, want.idwl)
    slopes = []
    for stage in stages:
        x = idsf[1:].clone().requires_grad_()  # without silence, where one of them has no slope
        slopes += torch.autograd.grad((stage(spectrum[1:], x, bsm[1:]).idwl * weight).sum(), x)
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)


def test_every_weight_has_a_slope_through_the_word_lengths(in_float64, build, gets_slopes, sound_units):
    spectrum, idsf, bsm = (x.double() for x in sound_units)
    idsf.requires_grad_()
    stage = build(m.NeuralAllocator)
    with torch.no_grad():  # neither rule alone, where the gate is flat
        stage.gate.weight.copy_(torch.tensor([[0.02, 0.3]]))
        stage.gate.bias.fill_(0.1)
    gets_slopes(stage, stage(spectrum, idsf, bsm).idwl, (idsf,))
    assert stage.slopes.grad.all()
    assert stage.tables.grad.count_nonzero() > 160


def test_audibility_is_relative_to_threshold_and_loudness(build, generator):
    energy = torch.rand(4, 52, generator=generator)
    stage = build(m.NeuralAllocator)
    alone = stage.audibility(energy)
    alone.sum().backward()
    assert torch.equal(stage.threshold.grad, torch.full((52,), -4.0)), "-1 from each of the sound units"
    torch.testing.assert_close(stage.audibility(4 * energy, torch.full((4,), 4 * START)), alone)
    torch.testing.assert_close(stage.audibility(4 * energy), alone + 2)
