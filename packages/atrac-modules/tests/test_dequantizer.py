from __future__ import annotations

import math

import pytest
import torch

from atrac_bitstream.tables import LEVELS, SCALE_FACTORS
from atrac_modules import Dequantizer, ReferenceDequantizer

STAGES = [ReferenceDequantizer]


@pytest.fixture
def frames(generator, random_bsm):
    """Legal values: quantized, idsf, idwl, bsm."""
    idwl = torch.randint(0, 16, (3, 4, 52), generator=generator).float()
    idsf = torch.randint(0, 64, (3, 4, 52), generator=generator).float()
    quantized = torch.randint(-1, 2, (3, 4, 512), generator=generator).float()
    return quantized, idsf, idwl, random_bsm(3, 4)


@pytest.mark.parametrize("stage", STAGES)
def test_dequantizer_keeps_the_contract(stage: type[Dequantizer], keeps_contract, frames):
    keeps_contract(stage(), frames, ((4, 512),))


@pytest.mark.parametrize("stage", STAGES)
def test_dequantizer_equals_golden(stage: type[Dequantizer], golden):
    spectrum = stage()(golden.quantized.float(), golden.idsf, golden.idwl, golden.bsm)
    assert torch.equal(spectrum, golden.dec_spectrum)


def test_every_scale_factor_and_word_length_gives_its_step():
    stage, bsm = ReferenceDequantizer(), torch.zeros(1, 3)
    for idsf in range(64):
        for idwl in range(1, 16):
            value = stage(torch.ones(1, 512), torch.full((1, 52), float(idsf)), torch.full((1, 52), float(idwl)), bsm)
            assert value[0, 0].item() == pytest.approx(SCALE_FACTORS[idsf] / LEVELS[idwl], rel=2e-7)


def test_dequantizer_passes_gradcheck(in_float64, frames):
    quantized, idsf, idwl, bsm = (x[0, :1].double() for x in frames)
    stage = ReferenceDequantizer()
    x = quantized.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: stage(q, idsf, idwl, bsm)[0, ::7], x)


def test_slope_along_the_scale_factor_index_is_that_of_its_formula(in_float64, frames):
    quantized, idsf, idwl, bsm = (x[0, :1].double() for x in frames)
    idsf.requires_grad_()
    spectrum = ReferenceDequantizer()(quantized, idsf, idwl, bsm)
    (slope,) = torch.autograd.grad(spectrum.sum(), idsf)
    from atrac_modules import BfuLayout

    torch.testing.assert_close(slope, math.log(2) / 3 * BfuLayout().sum(spectrum.detach(), bsm), rtol=1e-9, atol=0)
