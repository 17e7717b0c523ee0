from __future__ import annotations

import pytest
import torch

import atrac_modules as m
from atrac_bitstream.tables import BFU_SIZES
from atrac_modules.bfu import BfuLayout, carries

SEARCHES = (m.RateDistortionAllocator, m.NeuralRateDistortionAllocator)


def errors(allocation: m.Allocation, spectrum: torch.Tensor, bsm: torch.Tensor) -> torch.Tensor:
    """Return the squared errors of an allocation, in the unit of a long block's coefficient [*, 512]."""
    quantized = m.ReferenceQuantizer()(spectrum, allocation.idsf, allocation.idwl, bsm)
    decoded = m.ReferenceDequantizer()(quantized, allocation.idsf, allocation.idwl, bsm)
    layout = BfuLayout()
    return (decoded - spectrum).square() * torch.exp2(-layout.expand(layout.bsm_of_bfu(bsm), bsm))


def test_the_search_changes_scale_factors_and_leaves_less_error_than_the_reference(sound_units):
    spectrum, idsf, bsm = sound_units
    searched = m.RateDistortionAllocator(exponent=0.0)(spectrum, idsf, bsm)
    assert 0.2 < (searched.idsf != idsf)[searched.idwl > 0].float().mean() < 0.8
    error, reference = (errors(x, spectrum, bsm).sum(-1)[1:] for x in (searched, m.ReferenceAllocator()(*sound_units)))
    assert (error <= reference).float().mean() > 0.95
    assert (10 * (reference / error).log10()).mean() > 1


def test_each_higher_exponent_leaves_more_error_and_less_above_the_threshold(sound_units):
    spectrum, idsf, bsm = sound_units
    threshold = m.MaskingModel()(spectrum, bsm)
    left = [errors(m.RateDistortionAllocator(x / 4)(spectrum, idsf, bsm), spectrum, bsm) for x in range(5)]
    plain = [error.sum(-1)[1:].log10().mean().item() for error in left]
    masked = [(error / threshold).sum(-1)[1:].log10().mean().item() for error in left]
    assert plain == sorted(plain)
    assert masked == sorted(masked, reverse=True)
    assert plain[3] - plain[0] > 0.1, "1 dB"
    assert plain[4] - plain[3] > 0.02, "0.2 dB"


@pytest.mark.parametrize("stage", SEARCHES)
def test_silence_has_no_bits(stage: type[m.Allocator], build):
    result = build(stage)(torch.zeros(1, 512), torch.zeros(1, 52), torch.zeros(1, 3))
    assert not result.idwl.any()
    assert result.n_bfu == 20


@pytest.mark.parametrize("stage", SEARCHES)
def test_the_search_passes_on_the_slope_of_the_scale_factors_and_no_other(stage: type[m.Allocator], build, sound_units):
    spectrum, idsf, bsm = (x.clone().requires_grad_() for x in sound_units)
    result = build(stage)(spectrum, idsf, bsm)
    (slope,) = torch.autograd.grad((2 * result.idsf).sum(), idsf)
    assert torch.equal(slope, torch.full_like(idsf, 2))
    assert result.idwl.requires_grad == (stage is m.NeuralRateDistortionAllocator)
    if result.idwl.requires_grad:
        assert torch.autograd.grad(result.idwl.sum(), (spectrum, idsf), allow_unused=True) == (None, None)


@pytest.mark.parametrize("stage", [m.RateDistortionAllocator, m.RateDistortionTransient])
@pytest.mark.parametrize("exponent", [-0.01, 1.01, float("nan")])
def test_an_exponent_out_of_range_is_refused(exponent: float, stage):
    with pytest.raises(ValueError, match=f"exponent = {exponent}, allowed 0 to 1"):
        stage(exponent)


def test_every_weight_has_the_slope_of_half_the_importance_minus_its_mean(
    in_float64, build, sound_units, gets_slopes, slopes_are_differences, generator
):
    spectrum, idsf, bsm = (x.double() for x in sound_units)
    stage = build(m.NeuralRateDistortionAllocator, hidden=8)
    with torch.no_grad():  # so that the network has an effect
        stage.importance.network[-1].weight *= 100
    result = stage(spectrum, idsf, bsm)
    gets_slopes(stage, result.idwl)
    assert not carries(result.n_bfu).all()
    sizes = torch.from_numpy(BFU_SIZES) * carries(result.n_bfu)
    weight = torch.randn(3, 10, 52, generator=generator, dtype=torch.float64)

    def soft() -> torch.Tensor:
        half = stage.importance(spectrum, bsm) / 2
        mean = (half * sizes).sum(-1, keepdim=True) / sizes.sum(-1, keepdim=True)
        return (weight * torch.where(sizes > 0, half - mean, 0.0)).sum()

    hard = lambda: (weight * stage(spectrum, idsf, bsm).idwl).sum()  # noqa: E731
    slopes_are_differences(list(stage.parameters()), soft, hard=hard)


@torch.no_grad()
def test_more_important_bfus_have_more_bits(build, sound_units):
    stage = build(m.NeuralRateDistortionAllocator, hidden=8)
    before = stage(*sound_units).idwl
    stage.importance.network[-1].bias[10:20] = 3.0
    change = stage(*sound_units).idwl - before
    assert change[:, :, 10:20].mean() > 0.5
    assert change[:, :, :10].mean() < 0
