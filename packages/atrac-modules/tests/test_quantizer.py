from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import atrac_modules as m
from atrac_bitstream.tables import LEVELS

STAGES = [m.ReferenceQuantizer, m.NeuralQuantizer]
ROUNDINGS = {
    "straight": m.StraightThrough,
    "noise": lambda: m.UniformNoise(torch.Generator().manual_seed(9)),
    "soft": lambda: m.SoftRounding(4.0),
}
EXPECTED_TOLERANCE = 0.05
"""Of a slope against the smoothed error: 6 bits are a staircase of 31 steps, which leaves up to 3 %."""

rounding_by_name = pytest.mark.parametrize("make", ROUNDINGS.values(), ids=ROUNDINGS)


def taught(rounding: m.Rounding | None = None) -> m.NeuralQuantizer:
    """Return the learned stage with the reference codec's steps."""
    stage = m.NeuralQuantizer(rounding)
    with torch.no_grad():
        stage.steps.copy_(torch.from_numpy(LEVELS / (LEVELS + 1)))
        stage.offset.zero_()
    return stage


def full_scale(idwl: Tensor) -> Tensor:
    """Return the index of scale factor 1 for each BFU, with which coefficients are their scaled values."""
    return torch.full_like(idwl.detach(), 63.0)


def largest(idwl: Tensor, bsm: Tensor) -> Tensor:
    """Return the largest magnitude that the word length of each coefficient holds."""
    return m.BfuLayout().expand(torch.from_numpy(LEVELS).to(idwl.dtype)[idwl.long()] * (idwl > 0), bsm)


@pytest.fixture
def units(generator, random_bsm) -> tuple[Tensor, Tensor, Tensor]:
    """200 random sound units in float64: scaled coefficients, word lengths, block modes."""
    level = 2.0 ** -torch.randint(0, 8, (200, 1), generator=generator)
    scaled = (2 * torch.rand(200, 512, generator=generator, dtype=torch.float64) - 1) * 0.99999 * level
    idwl = torch.randint(0, 16, (200, 52), generator=generator).double()
    return scaled, idwl, random_bsm(200, dtype=torch.float64)


@pytest.mark.parametrize("stage", STAGES)
def test_quantizer_keeps_the_contract(stage: type[m.Quantizer], build, keeps_contract, generator, random_bsm):
    scaled = 2 * torch.rand(3, 4, 512, generator=generator) - 1
    idwl = torch.randint(0, 16, (3, 4, 52), generator=generator).float()
    idsf = torch.randint(50, 64, (3, 4, 52), generator=generator).float()
    keeps_contract(build(stage), (scaled, idsf, idwl, random_bsm(3, 4)), ((4, 512),))


@rounding_by_name
@pytest.mark.parametrize("stage", STAGES)
def test_values_are_whole_within_their_word_length_for_any_weights(stage, make, build, units):
    scaled, idwl, bsm = (x.float() for x in units)
    sign, module = scaled.sign(), build(stage, rounding=make())
    for scale in (1.0, 100.0):
        for weight in module.parameters():
            weight.data *= scale
        for x in (scaled, 100 * scaled, 0.99999 * sign, sign, torch.zeros_like(scaled), 1e-30 * sign):
            own, index = (y.clone().requires_grad_() for y in (x, idwl))
            quantized = module(own, full_scale(index), index, bsm).detach()
            assert torch.equal(quantized, quantized.round())
            assert (quantized.abs() <= largest(idwl, bsm)).all()


def test_quantizer_equals_golden(golden):
    inputs = golden.mdct, golden.idsf, golden.idwl, golden.bsm
    assert torch.equal(m.ReferenceQuantizer().scaled(golden.mdct, golden.idsf, golden.bsm), golden.scaled)
    assert torch.equal(m.ReferenceQuantizer()(*inputs), golden.quantized.float())
    # Scale factors from float32 logarithms are 1e-6 off, which moves up to 8 values of 15 bits in 10,000.
    off = (taught()(*inputs) - golden.quantized).abs()
    assert off.max() <= 1
    assert off.mean() < 1e-3


def test_scaled_magnitudes_of_1_and_more_become_0_99999():
    spectrum, idsf = torch.zeros(1, 512), torch.zeros(1, 52)
    spectrum[0, [0, 8, 16, 24]] = torch.tensor([1.0, -0.5, 4.0, -1.5])
    idsf[0, :4] = torch.tensor([63.0, 60, 63, 63])
    scaled = m.ReferenceQuantizer().scaled(spectrum, idsf, torch.zeros(1, 3))
    assert scaled[0, [0, 8, 16, 24]].tolist() == pytest.approx([0.99999, -0.99999, 0.99999, -0.99999])


@pytest.mark.parametrize("stage", STAGES)
def test_slopes_of_scaled_are_those_of_division_by_the_scale_factor_formula(stage, in_float64, generator):
    spectrum = (0.1 * torch.rand(1, 512, generator=generator, dtype=torch.float64)).requires_grad_()
    idsf = torch.full((1, 52), 55.0, dtype=torch.float64, requires_grad=True)
    scaled = stage().scaled(spectrum, idsf, torch.zeros(1, 3))
    slopes = torch.autograd.grad(scaled[0, 3], (spectrum, idsf))
    # spectrum / 2 ** (idsf / 3 - 21), by hand
    assert slopes[0][0, 3].item() == pytest.approx(2.0 ** (21 - 55 / 3), rel=1e-6)
    assert slopes[1][0, 0].item() == pytest.approx(-math.log(2) / 3 * scaled[0, 3].item(), rel=1e-9)


@rounding_by_name
def test_neural_quantizer_with_the_reference_steps_is_the_reference_in_slope_too(
    make: Callable[[], m.Rounding], in_float64, units
):
    scaled, idwl, bsm = units
    scaled[:, ::5] = 0  # where silence has a slope as well
    weight = torch.linspace(-1, 2, 512)
    results = []
    for stage in (m.ReferenceQuantizer(make()), taught(make())):
        x, index = scaled.clone().requires_grad_(), idwl.clone().requires_grad_()
        quantized = stage(x, full_scale(index), index, bsm)
        results.append((quantized.detach(), *torch.autograd.grad((weight * quantized).sum(), (x, index))))
    assert torch.equal(results[1][0], results[0][0])
    for got, want in zip(results[1][1:], results[0][1:], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0.0, [0, 1, 1, 2, 0, -1, -1, -2]), (-0.2, [0, 0, 1, 1, 0, 0, -1, -1]), (-3.0, [0] * 8)],  # no change of sign
)
def test_a_negative_offset_widens_the_zone_that_becomes_0(offset: float, expected: list[int]):
    scaled = torch.zeros(1, 512)
    scaled[0, :8] = torch.tensor([0.4, 0.6, 0.8, 1.6, -0.4, -0.6, -0.8, -1.6]) / 7
    idwl, stage = torch.full((1, 52), 3.0), taught()
    with torch.no_grad():
        stage.offset.fill_(offset)
    assert stage(scaled, full_scale(idwl), idwl, torch.zeros(1, 3))[0, :8].tolist() == expected


@rounding_by_name
def test_steps_and_offsets_of_every_word_length_have_a_slope(make, in_float64, build, gets_slopes, units):
    scaled, idwl, bsm = (x[:50].requires_grad_() for x in units)
    stage = build(m.NeuralQuantizer, rounding=make())
    gets_slopes(stage, stage(scaled, full_scale(idwl), idwl, bsm), (scaled, idwl))
    for weight in (stage.steps, stage.offset):
        assert weight.grad[1:].all()
        assert weight.grad[0] == 0, "no bits, nothing to learn"


@rounding_by_name
@pytest.mark.parametrize(("name", "value"), [("steps", 0.85), ("offset", 0.3), ("offset", -0.2)])
def test_slope_is_that_of_the_smoothed_error(name: str, value: float, make, in_float64, generator):
    # 6 bits, coefficients of all sizes up to where none is at the limit: each estimator's slope, which differs from
    # coefficient to coefficient, has the mean of the error's own, by a difference wide enough to smooth the steps.
    scaled = 1.7 * torch.rand(500, 512, generator=generator, dtype=torch.float64) - 0.85
    idwl, bsm = torch.full((500, 52), 5.0), torch.zeros(500, 3)

    def error_at(x: float) -> tuple[Tensor, Tensor]:
        stage = taught(make())
        with torch.no_grad():
            stage.get_parameter(name)[5] = x
        error = stage(scaled, full_scale(idwl), idwl, bsm) - scaled * largest(idwl, bsm)
        return error.square().mean(), stage.get_parameter(name)

    error, weight = error_at(value)
    (slope,) = torch.autograd.grad(error, weight)
    with torch.no_grad():
        difference = (error_at(value + 0.02)[0] - error_at(value - 0.02)[0]) / 0.04
    assert slope[5].item() == pytest.approx(difference.item(), rel=EXPECTED_TOLERANCE)


def test_slope_along_the_word_length_is_the_true_difference_of_squared_errors(in_float64, units, generator):
    scaled, idwl, bsm = units
    weight = torch.rand(200, 52, dtype=torch.float64, generator=generator)

    def errors(index: Tensor) -> Tensor:
        quantized = m.ReferenceQuantizer()(scaled, full_scale(index), index, bsm)
        back = m.ReferenceDequantizer()(quantized, full_scale(index), index, bsm)
        return weight * m.BfuLayout().sum((back - scaled).square(), bsm)

    direction = torch.where(idwl == 15, -1.0, 1.0)
    true = (errors(idwl + direction) - errors(idwl)) * direction
    now = idwl.clone().requires_grad_()
    (slope,) = torch.autograd.grad(errors(now).sum(), now)
    torch.testing.assert_close(slope, true, rtol=1e-6, atol=1e-18)
    assert (slope[(idwl == 0) & (slope != 0)] < 0).float().mean() > 0.9, "two bits are better than none"


def test_slopes_are_finite_where_nothing_is_lost():
    scaled = torch.zeros(1, 512)
    scaled[0, 0] = 1 / 3  # exact in 3 bits
    idwl = torch.full((1, 52), 2.0, requires_grad=True)
    m.ReferenceQuantizer()(scaled, full_scale(idwl), idwl, torch.zeros(1, 3)).sum().backward()
    assert torch.isfinite(idwl.grad).all()


def test_rounding_is_half_to_even():
    scaled = torch.zeros(1, 512)
    scaled[0, :4] = torch.tensor([0.5, 1.5, 2.5, -2.5]) / 7  # 4 bits: 7 steps either way
    idsf, idwl = torch.full((1, 52), 63.0), torch.full((1, 52), 3.0)  # a scale factor of 1
    quantized = m.ReferenceQuantizer()(scaled, idsf, idwl, torch.zeros(1, 3))
    assert quantized[0, :4].tolist() == [0, 2, 2, -2]
