"""What QMF, MDCT and their inverses have in common: golden vectors, learned matrices and taps, and slopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import atrac_modules as m
from atrac_modules.iqmf import synthesis_taps
from atrac_modules.qmf import analysis_taps


class Case(NamedTuple):
    """A role: its stages, the reference codec's numbers for the learned one, the golden vectors and how close."""

    bit_exact: type[m.Stage]
    reference: type[m.Stage]
    learned: type[m.Stage]
    numbers: Callable[[], dict[str, Any]]
    source: str
    result: str
    tolerance: float

    @property
    def takes_bsm(self) -> bool:
        return self.reference in (m.ReferenceMdct, m.ReferenceImdct)


CASES = {
    "qmf": Case(
        m.BitExactQmf, m.ReferenceQmf, m.NeuralQmf,
        lambda: dict(zip(("low_mid", "high"), analysis_taps())), "pcm", "qmf", 4e-6,
    ),
    "mdct": Case(
        m.BitExactMdct, m.ReferenceMdct, m.NeuralMdct,
        lambda: dict(m.ReferenceMdct().named_buffers()), "qmf", "mdct", 3e-7,
    ),
    "imdct": Case(
        m.BitExactImdct, m.ReferenceImdct, m.NeuralImdct,
        lambda: dict(m.ReferenceImdct().named_buffers()), "dec_spectrum", "dec_qmf", 5e-7,
    ),
    "iqmf": Case(
        m.BitExactIqmf, m.ReferenceIqmf, m.NeuralIqmf,
        lambda: dict(zip(("low_mid", "high"), synthesis_taps())), "dec_qmf", "pcm_pytrac", 1e-6,
    ),
}  # fmt: skip
MODES = (2.0, 2.0, 3.0)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def inputs(case: Case, generator, random_bsm) -> list[Tensor]:
    """Random input of a few frames in float64, with block modes if the stage takes any."""
    values = torch.rand(8, 512, generator=generator, dtype=torch.float64) - 0.5
    if case.takes_bsm:
        return [values, random_bsm(8, dtype=torch.float64)]
    return [values.flatten() if case.source == "pcm" else values]


def taught(case: Case) -> m.Stage:
    """Return the learned stage with the reference codec's numbers."""
    stage = case.learned()
    stage.load_state_dict({name: torch.as_tensor(values) for name, values in case.numbers().items()})
    return stage


def test_stages_match_golden(case: Case, golden):
    known = [getattr(golden, case.source), *([golden.bsm] if case.takes_bsm else [])]
    want = getattr(golden, case.result)
    assert torch.equal(case.bit_exact()(*known), want)
    for stage in (case.reference(), taught(case)):
        torch.testing.assert_close(stage(*known), want, rtol=0, atol=case.tolerance)


def test_a_learned_stage_with_the_reference_codecs_numbers_is_the_reference(in_float64, case: Case, inputs):
    torch.testing.assert_close(taught(case)(*inputs), case.reference()(*inputs), rtol=0, atol=1e-12)


def test_every_weight_and_input_has_its_slope(
    in_float64, case: Case, inputs, build, gets_slopes, slopes_are_differences
):
    stage, known = build(case.learned), [torch.nn.Parameter(inputs[0]), *(x.requires_grad_() for x in inputs[1:])]
    gets_slopes(stage, stage(*known), tuple(known))
    assert all(weight.grad.all() for weight in stage.parameters())
    slopes_are_differences([known[0], *stage.parameters()], lambda: stage(*known).square().sum())
    reference = case.reference()
    slopes_are_differences([known[0]], lambda: reference(*known).square().sum())


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
