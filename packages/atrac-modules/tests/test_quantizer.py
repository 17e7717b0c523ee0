from __future__ import annotations

import pytest
import torch

from atrac_bitstream.tables import LEVELS
from atrac_modules import (
    BfuLayout,
    Quantizer,
    ReferenceDequantizer,
    ReferenceQuantizer,
    SoftRounding,
    StraightThrough,
    UniformNoise,
)

STAGES = [ReferenceQuantizer]
ROUNDINGS = [StraightThrough(), UniformNoise(torch.Generator().manual_seed(1)), SoftRounding(5.0)]


@pytest.fixture
def units(generator, random_bsm):
    """1,000 random sound units in float64: scaled coefficients, word lengths, block modes."""
    level = 2.0 ** -torch.randint(0, 8, (1000, 1), generator=generator)
    scaled = (2 * torch.rand(1000, 512, generator=generator, dtype=torch.float64) - 1) * 0.99999 * level
    idwl = torch.randint(0, 16, (1000, 52), generator=generator).double()
    return scaled, idwl, random_bsm(1000, dtype=torch.float64)


@pytest.mark.parametrize("stage", STAGES)
def test_quantizer_keeps_the_contract(stage: type[Quantizer], keeps_contract, generator, random_bsm):
    scaled = 2 * torch.rand(3, 4, 512, generator=generator) - 1
    idwl = torch.randint(0, 16, (3, 4, 52), generator=generator).float()
    keeps_contract(stage(), (scaled, idwl, random_bsm(3, 4)), ((4, 512),))


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: type(r).__name__)
def test_values_are_whole_within_their_word_length_and_0_without_bits(rounding, units):
    scaled, idwl, bsm = units
    scaled.requires_grad_()
    idwl.requires_grad_()
    for s in (scaled, (100 * scaled.detach()).requires_grad_()):
        quantized = ReferenceQuantizer(rounding)(s, idwl, bsm)
        levels = torch.from_numpy(LEVELS)[idwl.long()] * (idwl > 0)
        assert torch.equal(quantized, quantized.round())
        assert (quantized.abs() <= BfuLayout().expand(levels, bsm)).all()


def test_quantizer_equals_golden(golden):
    assert torch.equal(ReferenceQuantizer()(golden.scaled, golden.idwl, golden.bsm), golden.quantized.float())


def test_rounding_is_half_to_even():
    scaled = torch.zeros(1, 512)
    scaled[0, :4] = torch.tensor([0.5, 1.5, 2.5, -0.5]) / 7
    idwl = torch.full((1, 52), 3.0)
    assert ReferenceQuantizer()(scaled, idwl, torch.zeros(1, 3))[0, :4].tolist() == [0, 2, 2, 0]


def squared_errors(scaled, idwl, bsm):
    """Return the squared error of the reconstruction in each BFU, by the stages themselves."""
    full_scale = torch.full_like(idwl, 63.0)
    with torch.no_grad():
        quantized = ReferenceQuantizer()(scaled, idwl, bsm)
        back = ReferenceDequantizer()(quantized, full_scale, idwl, bsm)
    return BfuLayout().sum((back - scaled).square(), bsm)


def test_slope_along_the_word_length_is_the_true_difference_of_squared_errors(in_float64, units):
    scaled, idwl, bsm = units
    idwl.requires_grad_()
    quantized = ReferenceQuantizer()(scaled, idwl, bsm)
    back = ReferenceDequantizer()(quantized, torch.full_like(idwl, 63.0), idwl, bsm)
    (slope,) = torch.autograd.grad((back - scaled).square().sum(), idwl)

    now = idwl.detach()
    direction = torch.where(now == 15, -1.0, 1.0)
    true = (squared_errors(scaled, now + direction, bsm) - squared_errors(scaled, now, bsm)) * direction
    assert torch.equal(slope.sign(), true.sign())
    assert ((slope - true).abs() <= 0.2 * true.abs()).all()
    torch.testing.assert_close(slope, true, rtol=1e-6, atol=1e-18)
    assert (slope[(now == 0) & (slope != 0)] < 0).float().mean() > 0.9, "two bits are better than none"


def test_first_order_alone_would_be_far_too_large(in_float64, units):
    # Why the slope has a second term: the error changes on the way to the next word length.
    scaled, idwl, bsm = units
    idwl = idwl.clamp_max(14)
    full_scale = torch.full_like(idwl, 63.0)

    def error(index: torch.Tensor) -> torch.Tensor:
        quantized = ReferenceQuantizer()(scaled, index, bsm)
        return ReferenceDequantizer()(quantized, full_scale, index, bsm) - scaled

    now, then = error(idwl), error(idwl + 1)
    true = BfuLayout().sum(then.square() - now.square(), bsm)
    first_order = BfuLayout().sum(2 * now * (then - now), bsm)
    ratio = (first_order / true)[true != 0]
    assert 2.7 < ratio.median() < 3.0
    assert ((ratio - 1).abs() <= 0.2).double().mean() < 0.01
    assert 0.99 < (ratio > 0).double().mean() < 1.0


def test_slope_is_the_difference_for_an_error_weighted_by_bfu_too(in_float64, units):
    scaled, idwl, bsm = (x[:50] for x in units)
    weight = torch.rand(50, 52, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    idwl.requires_grad_()
    back = ReferenceDequantizer()(ReferenceQuantizer()(scaled, idwl, bsm), torch.full_like(idwl, 63.0), idwl, bsm)
    (slope,) = torch.autograd.grad((BfuLayout().sum((back - scaled).square(), bsm) * weight).sum(), idwl)
    now = idwl.detach()
    direction = torch.where(now == 15, -1.0, 1.0)
    true = (squared_errors(scaled, now + direction, bsm) - squared_errors(scaled, now, bsm)) * direction
    torch.testing.assert_close(slope, true * weight, rtol=1e-6, atol=1e-18)


def test_slope_along_scaled_is_the_estimators_times_the_levels(in_float64, units):
    scaled, idwl, bsm = (x[:20] for x in units)
    for rounding in (StraightThrough(), SoftRounding(5.0)):
        x = scaled.clone().requires_grad_()
        (slope,) = torch.autograd.grad(ReferenceQuantizer(rounding)(x, idwl, bsm).sum(), x)
        levels = BfuLayout().expand(torch.from_numpy(LEVELS).double()[idwl.long()], bsm)
        y = (scaled * levels).requires_grad_()
        (expected,) = torch.autograd.grad(rounding(y).sum(), y)
        expected = expected * levels * BfuLayout().expand(idwl > 0, bsm)
        torch.testing.assert_close(slope, expected, rtol=1e-12, atol=0)


def test_slopes_are_finite_where_nothing_is_lost():
    scaled = torch.zeros(1, 512)
    scaled[0, 0] = 1 / 3  # exact in 3 bits
    idwl = torch.full((1, 52), 2.0, requires_grad=True)
    ReferenceQuantizer()(scaled, idwl, torch.zeros(1, 3)).sum().backward()
    assert torch.isfinite(idwl.grad).all()
