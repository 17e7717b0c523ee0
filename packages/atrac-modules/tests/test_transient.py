from __future__ import annotations

import pytest
import torch

from atrac_modules import BitExactTransient, ReferenceTransient, Transient
from atrac_modules.transient import BLOCK, FALL, RISE, _excess

STAGES = [ReferenceTransient, BitExactTransient]


@pytest.fixture
def bands(generator) -> torch.Tensor:
    """Noise that jumps up and down."""
    noise = torch.randn(3, 8, 512, generator=generator)
    return noise * 10.0 ** -torch.randint(0, 4, (3, 8, 1), generator=generator)


@pytest.mark.parametrize("stage", STAGES)
def test_transient_keeps_the_contract(stage: type[Transient], keeps_contract, bands):
    keeps_contract(stage(), (bands,), ((8, 3),))
    bsm = stage()(bands)
    assert set(bsm[..., :2].unique().tolist()) == {0, 2}
    assert set(bsm[..., 2].unique().tolist()) == {0, 3}


@pytest.mark.parametrize("stage", STAGES)
def test_transient_equals_golden(stage: type[Transient], golden):
    assert torch.equal(stage()(golden.qmf), golden.bsm)


@pytest.mark.parametrize("stage", STAGES)
def test_silence_is_short_in_the_first_frame_and_long_after(stage: type[Transient]):
    assert stage()(torch.zeros(3, 512)).tolist() == [[2, 2, 3], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("band", "first"), [(0, 0), (1, 128), (2, 256)])
def test_an_attack_is_found_in_its_band_and_frame(stage: type[Transient], band: int, first: int, generator):
    bands = 1e-3 * torch.randn(6, 512, generator=generator)
    bands[3, first + 64 : first + (256 if band == 2 else 128)] *= 1000
    found = stage()(bands)
    assert found[3, band] > 0
    assert found[1:3].sum() == 0


def test_thresholds_are_16_up_and_20_down():
    level = torch.tensor([0.0, 16.0, 16.0, -4.0, 12.1, -8.0]).reshape(1, 6)
    assert (_excess(level, 6)[0, :, 0] > 0).tolist() == [False, False, False, False, True, True]
    assert (RISE, FALL, BLOCK) == (16, 20, 16)


def test_frames_before_carry_the_level_on(generator):
    bands = torch.randn(6, 512, generator=generator)
    assert torch.equal(ReferenceTransient()(bands)[2:], ReferenceTransient()(bands[1:])[1:])


def test_slope_is_that_of_the_stated_logistic_curve(in_float64, generator):
    # One block per frame decides: the frame's noise with a louder last block.
    bands = torch.randn(3, 512, generator=generator, dtype=torch.float64)
    bands[1:, 112:128] *= 8
    bands.requires_grad_()
    bsm = ReferenceTransient(width=4.0)(bands)
    (slope,) = torch.autograd.grad(bsm[1, 0], bands)

    def curve(x: torch.Tensor) -> torch.Tensor:
        from atrac_modules.transient import high_pass_matrix

        low = torch.nn.functional.pad(x[:, :128].flatten(), (20, 0)).unfold(-1, 36, 16)
        level = 9.5 * (low @ torch.from_numpy(high_pass_matrix())).square().mean(-1).log10()
        change = level[8:16] - level[7:15]
        return 2 * torch.sigmoid(torch.maximum(change - 16, -change - 20).max() / 4)

    x = bands.detach().clone()
    step = torch.zeros_like(x)
    step[1, 120] = 1e-6
    difference = (curve(x + step) - curve(x - step)) / 2e-6
    assert slope[1, 120].item() == pytest.approx(difference.item(), rel=1e-5)
    assert torch.isfinite(slope).all()


def test_slope_is_finite_on_silence():
    bands = torch.zeros(2, 4, 512, requires_grad=True)
    ReferenceTransient()(bands).sum().backward()
    assert torch.isfinite(bands.grad).all()
