from __future__ import annotations

import math

import pytest
import torch

from atrac_bitstream.tables import SCALE_FACTORS
from atrac_modules import BfuLayout, ReferenceScaler, Scaler
from atrac_modules.scaler import LARGEST_SCALED

STAGES = [ReferenceScaler]


@pytest.mark.parametrize("stage", STAGES)
def test_scaler_keeps_the_contract(stage: type[Scaler], keeps_contract, random_bsm, generator):
    spectrum = torch.randn(3, 4, 512, generator=generator) * 10.0 ** -torch.randint(
        0, 6, (3, 4, 512), generator=generator
    )
    bsm = random_bsm(3, 4)
    keeps_contract(stage(), (spectrum, bsm), ((4, 52), (4, 512)))
    result = stage()(spectrum, bsm)
    assert torch.equal(result.idsf, result.idsf.round())
    assert result.idsf.min() >= 0
    assert result.idsf.max() <= 63
    assert result.scaled.abs().max() < 1
    assert torch.equal(stage().scale(spectrum, result.idsf, bsm), result.scaled)


@pytest.mark.parametrize("stage", STAGES)
def test_scaler_equals_golden(stage: type[Scaler], golden):
    result = stage()(golden.mdct, golden.bsm)
    assert torch.equal(result.idsf, golden.idsf)
    assert torch.equal(result.scaled, golden.scaled)


def test_scale_factor_is_the_smallest_that_is_not_below_the_largest_magnitude(generator, random_bsm):
    spectrum, bsm = 0.5 * torch.randn(4, 512, generator=generator), random_bsm(4)
    idsf = ReferenceScaler()(spectrum, bsm).idsf
    largest = BfuLayout().maximum(spectrum, bsm)
    table = torch.tensor(SCALE_FACTORS, dtype=torch.float32)
    for value, index in zip(largest.flatten().tolist(), idsf.flatten().int().tolist(), strict=True):
        assert index == next((i for i, factor in enumerate(table.tolist()) if factor >= value), 63)


def test_a_value_equal_to_its_scale_factor_and_all_beyond_1_become_0_99999():
    spectrum = torch.zeros(1, 512)
    spectrum[0, 0], spectrum[0, 8], spectrum[0, 16], spectrum[0, 24] = 1.0, -0.5, 4.0, -1.5
    result = ReferenceScaler()(spectrum, torch.zeros(1, 3))
    assert result.idsf[0, :4].tolist() == [63, 60, 63, 63]
    assert result.scaled[0, [0, 8, 16, 24]].tolist() == pytest.approx([0.99999, -0.99999, 0.99999, -0.99999])
    assert LARGEST_SCALED == 0.99999


def test_silence_has_index_0_and_stays_silent():
    result = ReferenceScaler()(torch.zeros(1, 512), torch.zeros(1, 3))
    assert not result.idsf.any()
    assert not result.scaled.any()


def test_scaling_passes_gradcheck_with_indices_fixed(in_float64, generator):
    spectrum = torch.rand(1, 512, generator=generator, dtype=torch.float64, requires_grad=True)
    bsm = torch.tensor([[0.0, 2.0, 0.0]], dtype=torch.float64)
    idsf = torch.full((1, 52), 63.0, dtype=torch.float64)
    stage = ReferenceScaler()
    assert torch.autograd.gradcheck(lambda x: stage.scale(x * 0.9, idsf, bsm)[0, ::13], spectrum)


def test_slope_of_the_index_follows_the_logarithm_of_the_largest_magnitude(in_float64, generator):
    spectrum = torch.rand(1, 512, generator=generator, dtype=torch.float64, requires_grad=True)
    bsm = torch.zeros(1, 3, dtype=torch.float64)
    (slope,) = torch.autograd.grad(ReferenceScaler()(spectrum, bsm).idsf[0, 0], spectrum)
    place = int(spectrum[0, :8].argmax())
    assert slope[0, place].item() == pytest.approx(3 / math.log(2) / spectrum[0, place].item(), rel=1e-9)
    assert slope.count_nonzero() == 1


def test_slope_along_the_index_is_that_of_the_scale_factor_formula(in_float64, generator):
    spectrum = 0.1 * torch.rand(1, 512, generator=generator, dtype=torch.float64)
    bsm = torch.zeros(1, 3, dtype=torch.float64)
    idsf = torch.full((1, 52), 55.0, dtype=torch.float64, requires_grad=True)
    scaled = ReferenceScaler().scale(spectrum, idsf, bsm)
    (slope,) = torch.autograd.grad(scaled[0, 3], idsf)
    # spectrum / 2 ** (idsf / 3 - 21), by hand
    assert slope[0, 0].item() == pytest.approx(-math.log(2) / 3 * scaled[0, 3].item(), rel=1e-9)


def test_slopes_are_finite_on_silence_and_overload():
    for level in (0.0, 1.0, 4.0):
        spectrum = torch.full((1, 512), level, requires_grad=True)
        result = ReferenceScaler()(spectrum, torch.zeros(1, 3))
        (result.idsf.sum() + result.scaled.sum()).backward()
        assert torch.isfinite(spectrum.grad).all()
