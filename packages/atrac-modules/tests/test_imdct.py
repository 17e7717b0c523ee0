from __future__ import annotations

import pytest
import torch

from atrac_modules import BitExactImdct, Imdct, NeuralImdct, ReferenceImdct

STAGES = [ReferenceImdct, BitExactImdct, NeuralImdct]


def taught() -> NeuralImdct:
    """Return the learned stage with the matrices of the reference stage."""
    stage, reference = NeuralImdct(), ReferenceImdct()
    with torch.no_grad():
        for name, weights in stage.named_parameters():
            weights.copy_(reference.get_buffer(name))
    return stage


@pytest.mark.parametrize("stage", STAGES)
def test_imdct_keeps_the_contract(stage: type[Imdct], build, keeps_contract, random_bsm, generator):
    keeps_contract(build(stage), (torch.rand(3, 6, 512, generator=generator), random_bsm(3, 6)), ((6, 512),))


def test_bit_exact_imdct_equals_golden(golden):
    assert torch.equal(BitExactImdct()(golden.dec_spectrum, golden.bsm), golden.dec_qmf)


@pytest.mark.parametrize("stage", [ReferenceImdct, taught], ids=["reference", "taught"])
def test_imdct_is_within_5e_7_of_golden(stage, golden):
    torch.testing.assert_close(stage()(golden.dec_spectrum, golden.bsm), golden.dec_qmf, rtol=0, atol=5e-7)


def test_neural_imdct_with_the_reference_matrices_is_the_reference(in_float64, generator, random_bsm):
    spectrum, bsm = (
        torch.rand(2, 9, 512, generator=generator, dtype=torch.float64),
        random_bsm(2, 9, dtype=torch.float64),
    )
    torch.testing.assert_close(taught()(spectrum, bsm), ReferenceImdct()(spectrum, bsm), rtol=0, atol=1e-12)


def test_every_weight_gets_its_slope(in_float64, build, gets_slopes, slopes_are_differences, generator, random_bsm):
    spectrum = torch.rand(9, 512, generator=generator, dtype=torch.float64).requires_grad_()
    bsm = random_bsm(9, dtype=torch.float64).requires_grad_()
    stage = build(NeuralImdct)
    gets_slopes(stage, stage(spectrum, bsm), (spectrum, bsm))
    assert all(weight.grad.all() for weight in stage.parameters())
    slopes_are_differences(list(stage.parameters()), lambda: stage(spectrum, bsm).square().sum())


@pytest.mark.parametrize("modes", [(0, 0, 0), (2, 2, 3), (0, 2, 0)])
def test_siblings_agree_to_float32(modes, generator):
    spectrum = torch.rand(2, 5, 512, generator=generator) - 0.5
    bsm = torch.tensor(modes, dtype=torch.float32).expand(2, 5, 3)
    torch.testing.assert_close(ReferenceImdct()(spectrum, bsm), BitExactImdct()(spectrum, bsm), rtol=0, atol=2e-5)


def test_imdct_passes_gradcheck(in_float64, generator):
    spectrum = torch.rand(1, 512, generator=generator, dtype=torch.float64, requires_grad=True)
    bsm = torch.tensor([[0.0, 2.0, 3.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ReferenceImdct()(x, bsm)[0, ::31], spectrum)


@pytest.mark.parametrize("stage", [ReferenceImdct, NeuralImdct])
def test_slope_of_the_block_mode_is_the_difference_of_the_transforms(stage: type[Imdct], build, in_float64, generator):
    module = build(stage)
    spectrum = torch.rand(3, 512, generator=generator, dtype=torch.float64)
    weight = torch.rand(3, 512, generator=generator, dtype=torch.float64)
    for chosen in ((0.0, 0.0, 0.0), (2.0, 2.0, 3.0), (0.0, 2.0, 0.0)):
        bsm = torch.tensor(chosen).expand(3, 3).clone().requires_grad_()
        (slope,) = torch.autograd.grad((weight * module(spectrum, bsm)).sum(), bsm)
        for band, mode in enumerate((2.0, 2.0, 3.0)):
            ends = []
            for other in (0.0, mode):
                changed = bsm.detach().clone()
                changed[1, band] = other
                ends.append((weight * module(spectrum, changed)).sum())
            assert slope[1, band].item() == pytest.approx((ends[1] - ends[0]).item() / mode, abs=1e-12)
