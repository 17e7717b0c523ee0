"""What QMF, MDCT and their inverses have in common: golden vectors, learned matrices and taps, and slopes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import atrac_modules as m
from atrac_modules.iqmf import synthesis_taps
from atrac_modules.qmf import analysis_taps

GOLDEN = {
    "Qmf": ("pcm", "qmf", 4e-6),
    "Mdct": ("qmf", "mdct", 3e-7),
    "Imdct": ("dec_spectrum", "dec_qmf", 5e-7),
    "Iqmf": ("dec_qmf", "pcm_pytrac", 1e-6),
}
"""Golden input and output of each role, and how close the reference stage comes."""
MODES = (2.0, 2.0, 3.0)


@pytest.fixture(params=GOLDEN)
def role(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def inputs(role: str, generator, random_bsm) -> list[Tensor]:
    """Random input of a few frames in float64, with block modes if the stage takes any."""
    values = torch.rand(8, 512, generator=generator, dtype=torch.float64) - 0.5
    bsm = [random_bsm(8, dtype=torch.float64)] if role in ("Mdct", "Imdct") else []
    return [values.flatten() if role == "Qmf" else values, *bsm]


def reference(role: str) -> m.Stage:
    return getattr(m, f"Reference{role}")()


def taught(role: str) -> m.Stage:
    """Return the learned stage with the reference codec's numbers."""
    taps = {"Qmf": analysis_taps, "Iqmf": synthesis_taps}
    known = zip(("low_mid", "high"), taps[role]()) if role in taps else reference(role).named_buffers()
    stage = getattr(m, f"Neural{role}")()
    stage.load_state_dict({name: torch.as_tensor(values) for name, values in known})
    return stage


def test_stages_match_golden(role: str, golden):
    source, result, tolerance = GOLDEN[role]
    inputs = [getattr(golden, source), *([golden.bsm] if role in ("Mdct", "Imdct") else [])]
    want = getattr(golden, result)
    assert torch.equal(getattr(m, f"BitExact{role}")()(*inputs), want)
    for stage in (reference(role), taught(role)):
        torch.testing.assert_close(stage(*inputs), want, rtol=0, atol=tolerance)


def test_a_learned_stage_with_the_reference_codecs_numbers_is_the_reference(in_float64, role: str, inputs):
    torch.testing.assert_close(taught(role)(*inputs), reference(role)(*inputs), rtol=0, atol=1e-12)


def test_every_weight_and_input_has_its_slope(
    in_float64, role: str, inputs, build, gets_slopes, slopes_are_differences
):
    values, *bsm = [torch.nn.Parameter(x) for x in inputs]
    stage = build(getattr(m, f"Neural{role}"))
    gets_slopes(stage, stage(values, *bsm), (values, *bsm))
    assert all(weight.grad.all() for weight in stage.parameters())
    for module in (stage, reference(role)):
        weights = [values, *module.parameters()]
        slopes_are_differences(weights, lambda module=module: module(values, *bsm).square().sum())


@pytest.mark.parametrize("name", ["ReferenceMdct", "NeuralMdct", "ReferenceImdct", "NeuralImdct"])
@pytest.mark.parametrize("chosen", [(0.0, 0.0, 0.0), MODES, (0.0, 2.0, 0.0)])
def test_slope_of_the_block_mode_is_the_difference_of_the_transforms(chosen, name, build, in_float64, generator):
    module = build(getattr(m, name))
    values, weight = torch.rand(2, 3, 512, generator=generator, dtype=torch.float64)
    bsm = torch.tensor(chosen).expand(3, 3).clone().requires_grad_()
    result = module(values, bsm)
    (slope,) = torch.autograd.grad((weight * result).sum(), bsm)
    for band, mode in enumerate(MODES):
        ends = []
        for other in (0.0, mode):
            changed = bsm.detach().clone()
            changed[1, band] = other
            ends.append((weight * module(values, changed)).sum())
        assert slope[1, band].item() == pytest.approx((ends[1] - ends[0]).item() / mode, abs=1e-12)
    with torch.no_grad():
        assert torch.equal(result, module(values, bsm))
