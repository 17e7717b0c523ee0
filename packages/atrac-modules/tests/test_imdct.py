from __future__ import annotations

import pytest
import torch

from atrac_modules import BitExactImdct, Imdct, NeuralImdct, ReferenceImdct

STAGES = [ReferenceImdct, BitExactImdct, NeuralImdct]


@pytest.mark.parametrize("stage", STAGES)
def test_imdct_keeps_the_contract(stage: type[Imdct], build, keeps_contract, random_bsm, generator):
    keeps_contract(build(stage), (torch.rand(3, 6, 512, generator=generator), random_bsm(3, 6)), ((6, 512),))


@pytest.mark.parametrize("modes", [(0, 0, 0), (2, 2, 3), (0, 2, 0)])
def test_siblings_agree_to_float32(modes, generator):
    spectrum = torch.rand(2, 5, 512, generator=generator) - 0.5
    bsm = torch.tensor(modes, dtype=torch.float32).expand(2, 5, 3)
    torch.testing.assert_close(ReferenceImdct()(spectrum, bsm), BitExactImdct()(spectrum, bsm), rtol=0, atol=2e-5)
