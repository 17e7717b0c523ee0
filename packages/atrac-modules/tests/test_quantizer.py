from __future__ import annotations

import math

import pytest
import torch

from atrac_bitstream.tables import LEVELS
from atrac_modules import (
    BfuLayout,
    NeuralQuantizer,
    Quantizer,
    ReferenceDequantizer,
    ReferenceQuantizer,
    SoftRounding,
    StraightThrough,
    UniformNoise,
)

STAGES = [ReferenceQuantizer, NeuralQuantizer]
ROUNDINGS = [StraightThrough(), UniformNoise(torch.Generator().manual_seed(1)), SoftRounding(5.0)]
EXPECTED_TOLERANCE = 0.05
"""Of a slope against the smoothed error: 6 bits are a staircase of 31 steps, which leaves up to 3 %."""


def taught(rounding=None) -> NeuralQuantizer:
    """Return the learned stage with the reference codec's steps."""
    stage = NeuralQuantizer(rounding)
    with torch.no_grad():
        stage.steps.copy_(torch.from_numpy(LEVELS / (LEVELS + 1)))
        stage.offset.zero_()
    return stage


def full_scale(idwl: torch.Tensor) -> torch.Tensor:
    """Return the index of scale factor 1 for each BFU, with which coefficients are their scaled values."""
    return torch.full_like(idwl.detach(), 63.0)


@pytest.fixture
def units(generator, random_bsm):
    """1,000 random sound units in float64: scaled coefficients, word lengths, block modes."""
    level = 2.0 ** -torch.randint(0, 8, (1000, 1), generator=generator)
    scaled = (2 * torch.rand(1000, 512, generator=generator, dtype=torch.float64) - 1) * 0.99999 * level
    idwl = torch.randint(0, 16, (1000, 52), generator=generator).double()
    return scaled, idwl, random_bsm(1000, dtype=torch.float64)


@pytest.mark.parametrize("stage", STAGES)
def test_quantizer_keeps_the_contract(stage: type[Quantizer], build, keeps_contract, generator, random_bsm):
    scaled = 2 * torch.rand(3, 4, 512, generator=generator) - 1
    idwl = torch.randint(0, 16, (3, 4, 52), generator=generator).float()
    idsf = torch.randint(50, 64, (3, 4, 52), generator=generator).float()
    keeps_contract(build(stage), (scaled, idsf, idwl, random_bsm(3, 4)), ((4, 512),))


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: type(r).__name__)
def test_values_are_whole_within_their_word_length_and_0_without_bits(rounding, units):
    scaled, idwl, bsm = units
    scaled.requires_grad_()
    idwl.requires_grad_()
    for s in (scaled, (100 * scaled.detach()).requires_grad_()):
        quantized = ReferenceQuantizer(rounding)(s, full_scale(idwl), idwl, bsm)
        levels = torch.from_numpy(LEVELS)[idwl.long()] * (idwl > 0)
        assert torch.equal(quantized, quantized.round())
        assert (quantized.abs() <= BfuLayout().expand(levels, bsm)).all()


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_weights_values_stay_in_their_word_length(seed: int, rounding, build, units):
    scaled, idwl, bsm = (x[:100].float() for x in units)
    stage = build(NeuralQuantizer, seed, rounding=rounding)
    with torch.no_grad():
        stage.offset *= 10.0**seed
    largest = BfuLayout().expand(torch.from_numpy(LEVELS)[idwl.long()] * (idwl > 0), bsm)
    sign = scaled.sign()
    for x in (scaled, 0.99999 * sign, sign, torch.zeros_like(scaled), -torch.zeros_like(scaled), 1e-30 * sign):
        for slope in (False, True):
            own, index = (y.clone().requires_grad_(slope) for y in (x, idwl))
            quantized = stage(own, full_scale(index), index, bsm).detach()
            assert torch.equal(quantized, quantized.round())
            assert (quantized.abs() <= largest).all()


def test_scaled_equals_golden(golden):
    assert torch.equal(ReferenceQuantizer().scaled(golden.mdct, golden.idsf, golden.bsm), golden.scaled)


def test_scaled_values_equal_to_their_scale_factor_and_all_beyond_become_0_99999():
    spectrum, idsf = torch.zeros(1, 512), torch.zeros(1, 52)
    spectrum[0, 0], spectrum[0, 8], spectrum[0, 16], spectrum[0, 24] = 1.0, -0.5, 4.0, -1.5
    idsf[0, :4] = torch.tensor([63.0, 60, 63, 63])
    scaled = ReferenceQuantizer().scaled(spectrum, idsf, torch.zeros(1, 3))
    assert scaled[0, [0, 8, 16, 24]].tolist() == pytest.approx([0.99999, -0.99999, 0.99999, -0.99999])


def test_scaling_passes_gradcheck_with_indices_fixed(in_float64, generator):
    spectrum = torch.rand(1, 512, generator=generator, dtype=torch.float64, requires_grad=True)
    bsm, idsf = torch.tensor([[0.0, 2.0, 0.0]], dtype=torch.float64), torch.full((1, 52), 63.0, dtype=torch.float64)
    stage = ReferenceQuantizer()
    assert torch.autograd.gradcheck(lambda x: stage.scaled(x * 0.9, idsf, bsm)[0, ::13], spectrum)


@pytest.mark.parametrize("stage", STAGES)
def test_slope_of_scaled_along_the_index_is_that_of_the_scale_factor_formula(stage, in_float64, generator):
    spectrum, bsm = 0.1 * torch.rand(1, 512, generator=generator, dtype=torch.float64), torch.zeros(1, 3)
    idsf = torch.full((1, 52), 55.0, dtype=torch.float64, requires_grad=True)
    scaled = stage().scaled(spectrum, idsf, bsm)
    (slope,) = torch.autograd.grad(scaled[0, 3], idsf)
    # spectrum / 2 ** (idsf / 3 - 21), by hand
    assert slope[0, 0].item() == pytest.approx(-math.log(2) / 3 * scaled[0, 3].item(), rel=1e-9)


def test_quantizer_equals_golden(golden):
    inputs = golden.mdct, golden.idsf, golden.idwl, golden.bsm
    assert torch.equal(ReferenceQuantizer()(*inputs), golden.quantized.float())
    # Scale factors from float32 logarithms are 1e-6 off, which moves up to 8 values of 15 bits in 10,000.
    off = (taught()(*inputs) - golden.quantized).abs()
    assert off.max() <= 1
    assert off.mean() < 1e-3


@pytest.mark.parametrize("rounding", [StraightThrough, lambda: SoftRounding(5.0)], ids=["straight", "soft"])
def test_neural_quantizer_with_the_reference_steps_is_the_reference_in_slope_too(rounding, in_float64, units):
    scaled, idwl, bsm = (x[:200] for x in units)
    scaled[:, ::5] = 0  # where silence has a slope as well
    weight = torch.linspace(-1, 2, 512)
    results = []
    for stage in (ReferenceQuantizer(rounding()), taught(rounding())):
        x, index = scaled.clone().requires_grad_(), idwl.clone().requires_grad_()
        quantized = stage(x, full_scale(index), index, bsm)
        results.append((quantized.detach(), *torch.autograd.grad((weight * quantized).sum(), (x, index))))
    assert torch.equal(results[1][0], results[0][0])
    for got, want in zip(results[1][1:], results[0][1:], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_a_negative_offset_widens_the_zone_that_becomes_0():
    scaled = torch.zeros(1, 512)
    scaled[0, :8] = torch.tensor([0.4, 0.6, 0.8, 1.6, -0.4, -0.6, -0.8, -1.6]) / 7
    idwl, bsm = torch.full((1, 52), 3.0), torch.zeros(1, 3)
    stage = taught()
    assert stage(scaled, full_scale(idwl), idwl, bsm)[0, :8].tolist() == [0, 1, 1, 2, 0, -1, -1, -2]
    with torch.no_grad():
        stage.offset.fill_(-0.2)
    assert stage(scaled, full_scale(idwl), idwl, bsm)[0, :8].tolist() == [0, 0, 1, 1, 0, 0, -1, -1]
    with torch.no_grad():
        stage.offset.fill_(-3.0)
    assert not stage(scaled, full_scale(idwl), idwl, bsm).any(), "nothing changes its sign"


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: type(r).__name__)
def test_steps_and_offsets_of_every_word_length_get_a_slope(rounding, in_float64, build, gets_slopes, units):
    scaled, idwl, bsm = (x[:50].requires_grad_() for x in units)
    stage = build(NeuralQuantizer, rounding=rounding)
    gets_slopes(stage, stage(scaled, full_scale(idwl), idwl, bsm), (scaled, idwl))
    for weight in (stage.steps, stage.offset):
        assert weight.grad[1:].all()
        assert weight.grad[0] == 0, "no bits, nothing to learn"


def reconstruction_error(stage: Quantizer, scaled, idwl, bsm) -> torch.Tensor:
    """Return the mean squared error after an ideal dequantizer, in steps of it."""
    quantized = stage(scaled, full_scale(idwl), idwl, bsm)
    levels = BfuLayout().expand(torch.from_numpy(LEVELS).double()[idwl.long()], bsm)
    return (quantized - scaled * levels).square().mean()


@pytest.mark.parametrize("rounding", ["straight", "noise", "soft"])
@pytest.mark.parametrize(("name", "value"), [("steps", 0.85), ("steps", 0.92), ("offset", 0.3), ("offset", -0.2)])
def test_slope_is_that_of_the_smoothed_error(name: str, value: float, rounding: str, in_float64, generator):
    # 6 bits, coefficients of all sizes up to where none is at the limit: each estimator's slope, which is another one
    # in each coefficient, has the mean that the error itself has, by a difference wide enough to smooth the steps.
    scaled = 1.7 * torch.rand(800, 512, generator=generator, dtype=torch.float64) - 0.85
    idwl, bsm = torch.full((800, 52), 5.0), torch.zeros(800, 3)

    def error_at(x: float, rounding) -> tuple[torch.Tensor, NeuralQuantizer]:
        stage = taught(rounding)
        with torch.no_grad():
            stage.get_parameter(name)[5] = x
        return reconstruction_error(stage, scaled, idwl, bsm), stage

    def make():
        seeded = torch.Generator().manual_seed(9)
        return {"straight": StraightThrough(), "noise": UniformNoise(seeded), "soft": SoftRounding(4.0)}[rounding]

    error, stage = error_at(value, make())
    error.backward()
    slope = stage.get_parameter(name).grad[5].item()
    width = 0.02
    with torch.no_grad():
        ends = [error_at(value + side * width, make())[0].item() for side in (1, -1)]
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * width), rel=EXPECTED_TOLERANCE)


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: type(r).__name__)
def test_a_few_steps_down_the_slope_lower_the_error(rounding, build, units):
    scaled, idwl, bsm = (x[:20].float() for x in units)
    stage = build(NeuralQuantizer, rounding=rounding)

    def true_error() -> float:
        hard = NeuralQuantizer()
        hard.load_state_dict(stage.state_dict())
        with torch.no_grad():
            levels = BfuLayout().expand(torch.from_numpy(LEVELS).float()[idwl.long()], bsm)
            return (hard(scaled, full_scale(idwl), idwl, bsm) / levels - scaled).square().mean().item()

    before = true_error()
    optimizer = torch.optim.Adam(stage.parameters(), lr=0.03)
    for _ in range(30):
        optimizer.zero_grad()
        reconstruction_error(stage, scaled, idwl, bsm).backward()
        optimizer.step()
    # What cannot be learned away are BFUs without bits and the rounding itself.
    with torch.no_grad():
        levels = BfuLayout().expand(torch.from_numpy(LEVELS).float()[idwl.long()], bsm)
        least = (ReferenceQuantizer()(scaled, full_scale(idwl), idwl, bsm) / levels - scaled).square().mean().item()
    assert true_error() - least < 0.5 * (before - least)


def test_rounding_is_half_to_even():
    scaled = torch.zeros(1, 512)
    scaled[0, :4] = torch.tensor([0.5, 1.5, 2.5, -0.5]) / 7
    idwl = torch.full((1, 52), 3.0)
    assert ReferenceQuantizer()(scaled, full_scale(idwl), idwl, torch.zeros(1, 3))[0, :4].tolist() == [0, 2, 2, 0]


def squared_errors(scaled, idwl, bsm):
    """Return the squared error of the reconstruction in each BFU, by the stages themselves."""
    one = full_scale(idwl)
    with torch.no_grad():
        quantized = ReferenceQuantizer()(scaled, full_scale(idwl), idwl, bsm)
        back = ReferenceDequantizer()(quantized, one, idwl, bsm)
    return BfuLayout().sum((back - scaled).square(), bsm)


def test_slope_along_the_word_length_is_the_true_difference_of_squared_errors(in_float64, units):
    scaled, idwl, bsm = units
    idwl.requires_grad_()
    quantized = ReferenceQuantizer()(scaled, full_scale(idwl), idwl, bsm)
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
    one = full_scale(idwl)

    def error(index: torch.Tensor) -> torch.Tensor:
        quantized = ReferenceQuantizer()(scaled, full_scale(index), index, bsm)
        return ReferenceDequantizer()(quantized, one, index, bsm) - scaled

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
    back = ReferenceDequantizer()(
        ReferenceQuantizer()(scaled, full_scale(idwl), idwl, bsm), torch.full_like(idwl, 63.0), idwl, bsm
    )
    (slope,) = torch.autograd.grad((BfuLayout().sum((back - scaled).square(), bsm) * weight).sum(), idwl)
    now = idwl.detach()
    direction = torch.where(now == 15, -1.0, 1.0)
    true = (squared_errors(scaled, now + direction, bsm) - squared_errors(scaled, now, bsm)) * direction
    torch.testing.assert_close(slope, true * weight, rtol=1e-6, atol=1e-18)


def test_slope_along_scaled_is_the_estimators_times_the_levels(in_float64, units):
    scaled, idwl, bsm = (x[:20] for x in units)
    for rounding in (StraightThrough(), SoftRounding(5.0)):
        x = scaled.clone().requires_grad_()
        (slope,) = torch.autograd.grad(ReferenceQuantizer(rounding)(x, full_scale(idwl), idwl, bsm).sum(), x)
        levels = BfuLayout().expand(torch.from_numpy(LEVELS).double()[idwl.long()], bsm)
        y = (scaled * levels).requires_grad_()
        (expected,) = torch.autograd.grad(rounding(y).sum(), y)
        expected = expected * levels * BfuLayout().expand(idwl > 0, bsm)
        torch.testing.assert_close(slope, expected, rtol=1e-12, atol=0)


def test_slopes_are_finite_where_nothing_is_lost():
    scaled = torch.zeros(1, 512)
    scaled[0, 0] = 1 / 3  # exact in 3 bits
    idwl = torch.full((1, 52), 2.0, requires_grad=True)
    ReferenceQuantizer()(scaled, full_scale(idwl), idwl, torch.zeros(1, 3)).sum().backward()
    assert torch.isfinite(idwl.grad).all()
