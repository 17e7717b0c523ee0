from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

from atrac_bitstream.tables import BFU_OF_VALUE, LEVELS, SCALE_FACTORS
from atrac_modules import BfuLayout, Dequantizer, NeuralDequantizer, ReferenceDequantizer

STAGES = [ReferenceDequantizer, NeuralDequantizer, functools.partial(NeuralDequantizer, hidden=8)]
LEVELS_TOLERANCE = 2e-6
"""Of 2 ** x in float32, x = -21 .. 0: half a step of x there is 1e-6, which times log(2) is the relative error."""


def taught(hidden: int = 0) -> NeuralDequantizer:
    """Return the learned stage with the format's scale factors and steps."""
    stage = NeuralDequantizer(hidden)
    with torch.no_grad():
        stage.levels.copy_(torch.from_numpy(np.log2(SCALE_FACTORS)))
        stage.steps[1:] = torch.from_numpy(LEVELS / (LEVELS + 1))[1:]
        stage.steps[0] = 1
    return stage


@pytest.fixture
def legal(generator, random_bsm):
    """Values over the whole range of each word length, 0 where there are no bits; float64."""
    idwl = torch.randint(0, 16, (3, 20, 52), generator=generator).double()
    idsf = torch.randint(0, 64, (3, 20, 52), generator=generator).double()
    bsm = random_bsm(3, 20, dtype=torch.float64)
    levels = torch.from_numpy(LEVELS).double()[idwl.long()] * (idwl > 0)
    share = 2 * torch.rand(3, 20, 512, generator=generator, dtype=torch.float64) - 1
    return (share * BfuLayout().expand(levels, bsm)).round(), idsf, idwl, bsm


@pytest.mark.parametrize("stage", STAGES, ids=["reference", "neural", "corrected"])
def test_dequantizer_keeps_the_contract(stage: type[Dequantizer], build, keeps_contract, legal):
    keeps_contract(build(stage), tuple(x[:, :4].float() for x in legal), ((4, 512),))


def test_dequantizer_equals_golden(golden):
    spectrum = ReferenceDequantizer()(golden.quantized.float(), golden.idsf, golden.idwl, golden.bsm)
    assert torch.equal(spectrum, golden.dec_spectrum)
    spectrum = taught()(golden.quantized.float(), golden.idsf, golden.idwl, golden.bsm)
    torch.testing.assert_close(spectrum, golden.dec_spectrum, rtol=LEVELS_TOLERANCE, atol=0)


def test_neural_dequantizer_with_the_formats_tables_is_the_reference_in_slope_too(in_float64, legal):
    results = []
    for stage in (ReferenceDequantizer(), taught()):
        quantized, idsf, idwl, bsm = legal
        quantized, idsf = quantized.clone().requires_grad_(), idsf.clone().requires_grad_()
        spectrum = stage(quantized, idsf, idwl, bsm)
        results.append((spectrum.detach(), *torch.autograd.grad(spectrum.square().sum(), (quantized, idsf))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_weights_values_are_finite_and_odd_and_at_most_half_a_step_off(seed, hidden, build, legal):
    quantized, idsf, idwl, bsm = (x.float() for x in legal)
    stage = build(NeuralDequantizer, seed, hidden=hidden, neighbours=1 + 3 * seed)
    with torch.no_grad():
        for weight in stage.correction.parameters() if stage.correction else ():
            weight *= 3
        spectrum, turned = stage(quantized, idsf, idwl, bsm), stage(-quantized, idsf, idwl, bsm)
        step = stage.step(idsf, idwl, bsm)
    assert torch.isfinite(spectrum).all()
    assert torch.equal(turned, -spectrum)
    off = (spectrum / step - quantized).abs()
    assert (off <= 0.5 + 1e-6 * quantized.abs()).all()
    assert (off > 0.1).any() == bool(hidden)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_correction_sees_its_neighbours_its_bfu_and_those_of_the_frame_before(before: int, build, legal):
    quantized, idsf, idwl, bsm = (x[0].float() for x in legal)
    idwl = idwl.clamp_min(1)
    bsm = torch.zeros_like(bsm)
    stage = build(NeuralDequantizer, hidden=8, neighbours=3, before=before)
    changed = quantized.clone()
    changed[1, 100] = -changed[1, 100] - 1
    with torch.no_grad():
        moved = (stage(changed, idsf, idwl, bsm) != stage(quantized, idsf, idwl, bsm)).nonzero().tolist()
    assert [1, 100] in moved
    own = {(1, k) for k in range(97, 104)} | {(1, int(k)) for k in np.flatnonzero(BFU_OF_VALUE[100] == BFU_OF_VALUE)}
    after = {(2, k) for k in range(101 - before, 100 + before)}
    assert {(f, k) for f, k in moved} <= own | after
    assert len(moved) > 1
    assert any(f == 2 for f, _ in moved) == bool(before)


def test_fullness_of_a_bfu_worked_out_by_hand(build):
    stage = build(NeuralDequantizer, hidden=8)
    quantized = torch.zeros(1, 512)
    quantized[0, :8] = torch.tensor([3.0, -2, 0, 0, 3, 1, 0, -1])
    idwl = torch.full((1, 52), 3.0)  # 4 bits: up to 7
    found = stage.correction._fullness(quantized, idwl, torch.zeros(1, 3), stage.layout)
    assert found[0, 0].tolist() == pytest.approx([3 / 7, 10 / 8 / 7, 2 / 8, 3 / 8, 1 / 2])
    assert found[0, 1].tolist() == pytest.approx([0, 0, 1, 1, 1 / 8])


@pytest.mark.parametrize("hidden", [0, 8])
def test_every_weight_and_input_of_the_dequantizer_has_its_slope(
    hidden: int, in_float64, build, gets_slopes, slopes_are_differences, legal
):
    quantized, idsf, idwl, bsm = legal
    quantized.requires_grad_()
    idsf.requires_grad_()
    stage = build(NeuralDequantizer, hidden=hidden)

    gets_slopes(stage, stage(quantized, idsf, idwl, bsm), (quantized, idsf))
    assert stage.levels.grad.all()
    assert stage.steps.grad[1:].all()
    # What the correction sees counts as a constant, so with one only its own weights have the true slope; a frame of
    # each channel and a small step, because its network has kinks.
    weights = list(stage.correction.parameters()) if stage.correction else [stage.levels, stage.steps]
    few = [x[:, :1].detach() for x in legal]
    known = bool(hidden) * few[0]
    step = stage.step(*few[1:]).detach()
    slopes_are_differences(weights, lambda: (stage(*few) / step - known).square().sum(), step=1e-7)


def test_slopes_along_the_inputs_are_the_step_and_that_of_the_scale_factor_formula(in_float64, legal):
    quantized, idsf, idwl, bsm = (x[0].clone().requires_grad_() for x in legal)
    spectrum = ReferenceDequantizer()(quantized, idsf, idwl, bsm)
    slopes = torch.autograd.grad(spectrum.sum(), (quantized, idsf))
    torch.testing.assert_close(slopes[0] * quantized, spectrum, rtol=1e-9, atol=0)
    torch.testing.assert_close(slopes[1], math.log(2) / 3 * BfuLayout().sum(spectrum, bsm), rtol=1e-9, atol=1e-12)


def test_every_scale_factor_and_word_length_gives_its_step():
    idsf, idwl = torch.cartesian_prod(torch.arange(64.0), torch.arange(1.0, 16.0)).T
    per_bfu = (x[:, None].expand(-1, 52) for x in (idsf, idwl))
    value = ReferenceDequantizer()(torch.ones(len(idsf), 512), *per_bfu, torch.zeros(len(idsf), 3))[:, 0]
    expected = torch.from_numpy(SCALE_FACTORS)[idsf.long()] / torch.from_numpy(LEVELS)[idwl.long()]
    torch.testing.assert_close(value.double(), expected, rtol=2e-7, atol=0)
