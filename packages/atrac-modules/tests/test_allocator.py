from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from atrac_bitstream.tables import BFU_AMOUNTS, BFU_SIZES
from atrac_modules import (
    Allocation,
    Allocator,
    BitExactAllocator,
    BitExactLoudness,
    MaskingModel,
    NeuralAllocator,
    NeuralRateDistortionAllocator,
    RateDistortionAllocator,
    ReferenceAllocator,
    ReferenceDequantizer,
    ReferenceQuantizer,
    ReferenceScaler,
    used_value_bits,
    value_bits,
)
from atrac_modules.allocator import _BOOSTED, _FIXED_LONG, _FIXED_SHORT, NEVER
from atrac_modules.bfu import BfuLayout
from atrac_modules.hearing_threshold import _FRANK, hearing_threshold
from atrac_modules.loudness import START
from atrac_modules.water_filling import carries


def taught() -> NeuralAllocator:
    """Return the learned stage with the reference codec's rules."""
    stage = NeuralAllocator()
    with torch.no_grad():
        stage.slopes.copy_(torch.tensor([1 / 3.2, 0.0]))
        stage.tables.zero_()
        stage.tables[1].copy_(torch.from_numpy(np.stack([_FIXED_LONG, _FIXED_SHORT])))
        # The features are mean and standard deviation over 10, the share is the standard deviation over 14.
        stage.gate.weight.copy_(torch.tensor([[0.0, 10 / 14]]))
        stage.gate.bias.zero_()
        stage.threshold.copy_(torch.from_numpy(hearing_threshold()).double().log2())
        stage.turn.fill_(2.0)
        stage.turn[list(_BOOSTED)] = torch.linspace(0, 1, len(_BOOSTED))
    return stage


STAGES = [
    ReferenceAllocator,
    BitExactAllocator,
    NeuralAllocator,
    RateDistortionAllocator,
    functools.partial(RateDistortionAllocator, exponent=0.0),
    NeuralRateDistortionAllocator,
]
SEARCHES = (RateDistortionAllocator, NeuralRateDistortionAllocator)
"""Those that may move the scale factors."""
ENCODERS = [ReferenceAllocator, BitExactAllocator, taught]
"""Those that decide as the reference codec does."""
LOUDNESSES = (None, torch.full((3, 30), 1e-6), torch.full((3, 30), 1e3))


@pytest.fixture
def frames(generator, random_bsm) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Spectra of all slopes and levels, silence among them, with their scale factors and block modes."""
    decay = torch.logspace(0, -4, 512) ** torch.rand(3, 30, 1, generator=generator)
    level = 10.0 ** -torch.randint(0, 5, (3, 30, 1), generator=generator)
    spectrum = (torch.randn(3, 30, 512, generator=generator) * decay * level).clamp(-2, 2)
    spectrum[0, 0] = 0
    bsm = random_bsm(3, 30)
    return spectrum, ReferenceScaler()(spectrum, bsm), bsm


@pytest.mark.parametrize("stage", STAGES)
def test_allocator_keeps_the_contract(stage: type[Allocator], build, keeps_contract, frames):
    keeps_contract(build(stage), frames, ((30,), (30, 52), (30, 52)))


def check_legal(result: Allocation, idsf: torch.Tensor, moves: bool = False) -> None:
    """Check everything that an allocator promises; one that `moves` need not leave the scale factors where they are."""
    assert set(result.n_bfu.unique().tolist()) <= set(map(float, BFU_AMOUNTS))
    assert torch.equal(result.idwl, result.idwl.round().clamp(0, 15))
    assert not (result.idwl * ~carries(result.n_bfu)).any()
    assert (used_value_bits(result.idwl) <= value_bits(result.n_bfu)).all()
    if moves:
        assert torch.equal(result.idsf, result.idsf.round().clamp(0, 63))
        assert torch.equal(result.idsf[result.idwl == 0], idsf[result.idwl == 0])
        assert (result.idsf - idsf).abs().max() <= 3
    else:
        assert result.idsf is idsf


@pytest.mark.parametrize("stage", STAGES)
def test_allocations_are_legal_and_within_budget(stage: type[Allocator], build, frames):
    spectrum, idsf, bsm = frames
    stage = build(stage)
    for loudness in LOUDNESSES:
        check_legal(stage(spectrum, idsf, bsm, loudness), idsf, isinstance(stage, SEARCHES))


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_weights_allocations_are_legal(seed: int, build, frames):
    spectrum, idsf, bsm = frames
    stage = build(NeuralAllocator, seed)
    with torch.no_grad():  # from small to absurd, and from all BFUs boosted to next to none
        stage.tables *= 4.0 ** (seed % 5)
        stage.turn += 0.15 * seed
    for loudness in LOUDNESSES:
        check_legal(stage(spectrum, idsf, bsm, loudness), idsf)
    soft = idsf.clone().requires_grad_()
    result = stage(spectrum, soft, bsm)
    assert result.idwl.requires_grad
    check_legal(result, soft)


@pytest.mark.parametrize("stage", ENCODERS)
def test_allocator_equals_golden(stage, golden):
    loudness = BitExactLoudness()(golden.mdct[None], golden.bsm[None]).loudness
    result = stage()(golden.mdct, golden.idsf, golden.bsm, loudness.expand(len(golden.mdct), -1))
    assert torch.equal(result.n_bfu, torch.tensor(BFU_AMOUNTS)[golden.bfu_amount_idx.long()].float())
    assert torch.equal(result.idwl, golden.idwl)


def test_tables_have_the_reference_codecs_values():
    assert len(_FIXED_LONG) == len(_FIXED_SHORT) == 52
    assert (_FIXED_LONG.sum(), _FIXED_SHORT.sum()) == (236, 236)
    assert (_FIXED_LONG[[0, 2, 3, 21, 22, 34, 35, 51]] == [7, 7, 6, 6, 5, 5, 4, 0]).all()
    assert (_FIXED_SHORT[[0, 23, 24, 35, 36, 43, 44]] == [6, 6, 5, 5, 4, 4, 0]).all()
    assert len(_FRANK) == 140
    assert (_FRANK[0], min(_FRANK), _FRANK[-1]) == (9669, -535, 9999)


def test_hearing_threshold_is_lowest_near_4_kilohertz_and_worked_out_at_one_bfu():
    threshold = hearing_threshold()
    assert threshold.shape == (52,)
    assert int(np.argmin(threshold)) == 13, "coefficients 86 to 91, 3.7 to 4 kHz"
    # The first coefficient lies at 22.05 / 512 kHz; by hand for the last of BFU 0, the eighth, 344.5 Hz.
    position = 40 * np.log10(34.453125)
    index = int(position)
    frank = 0.01 * (_FRANK[index] * (1 + index - position) + _FRANK[index + 1] * (position - index))
    by_hand = 10 ** (0.1 * (frank - 100 - 0.015 * 0.34453125**2))
    assert threshold[0] == pytest.approx(by_hand, rel=1e-5)


def test_inaudible_long_bfus_get_no_bits_but_short_ones_do():
    spectrum = torch.full((2, 512), 1e-7)
    spectrum[:, :128] = 0.1
    bsm = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 3.0]])
    idsf = ReferenceScaler()(spectrum, bsm)
    result = ReferenceAllocator()(spectrum, idsf, bsm, torch.full((2,), 1e6))
    assert result.idwl[0, 23:32].sum() == 0
    assert result.n_bfu[1] >= result.n_bfu[0]


def test_slope_is_that_of_wanted_bits_less_their_mean(in_float64, generator):
    spectrum = 0.5 * torch.rand(1, 512, generator=generator, dtype=torch.float64)
    bsm = torch.zeros(1, 3, dtype=torch.float64)
    idsf = ReferenceScaler()(spectrum, bsm) - torch.arange(52.0, dtype=torch.float64) / 3
    idsf = idsf.round().requires_grad_()
    result = ReferenceAllocator()(spectrum, idsf, bsm)
    n = int(result.n_bfu)
    sizes = torch.from_numpy(BFU_SIZES)[:n].double()

    def soft(x: torch.Tensor) -> torch.Tensor:
        spread = min(float(x.std(correction=0)), 14.0) / 14
        wanted = spread * x[0] / 3.2 + (1 - spread) * torch.from_numpy(_FIXED_LONG)
        return wanted[:n] - (wanted[:n] * sizes).sum() / sizes.sum()

    (slope,) = torch.autograd.grad(result.idwl[0, 5], idsf)
    for bfu in (5, 6, 40):
        step = torch.zeros(1, 52, dtype=torch.float64)
        step[0, bfu] = 1e-5
        difference = (soft(idsf.detach() + step) - soft(idsf.detach() - step))[5] / 2e-5
        assert slope[0, bfu].item() == pytest.approx(difference.item(), rel=1e-5, abs=1e-9)


def test_slope_is_finite_when_all_scale_factors_are_alike():
    idsf = torch.full((1, 52), 40.0, requires_grad=True)
    result = ReferenceAllocator()(torch.full((1, 512), 0.005), idsf, torch.zeros(1, 3))
    result.idwl.sum().backward()
    assert torch.isfinite(idsf.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neural_allocator_with_the_reference_rules_decides_as_the_reference(dtype, frames, request):
    if dtype is torch.float64:
        request.getfixturevalue("in_float64")
    spectrum, idsf, bsm = (x.to(dtype) for x in frames)
    for loudness in LOUDNESSES:
        got, want = (stage(spectrum, idsf, bsm, loudness) for stage in (taught(), ReferenceAllocator()))
        assert torch.equal(got.n_bfu, want.n_bfu)
        assert torch.equal(got.idwl, want.idwl)


def test_neural_allocator_with_the_reference_rules_has_the_references_slope(in_float64, frames):
    spectrum, idsf, bsm = (x[1:].double() for x in frames)
    weight = torch.linspace(-1, 2, 52)
    slopes = []
    for stage in (taught(), ReferenceAllocator()):
        x = idsf.clone().requires_grad_()
        slopes += torch.autograd.grad((stage(spectrum, x, bsm).idwl * weight).sum(), x)
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)


def test_slopes_and_tables_and_gate_get_a_slope_through_the_word_lengths(
    in_float64, build, gets_slopes, slopes_are_differences, frames
):
    spectrum, idsf, bsm = (x.double() for x in frames)
    idsf.requires_grad_()
    stage = build(NeuralAllocator)
    with torch.no_grad():  # neither rule all by itself, where the gate is flat
        stage.gate.weight.copy_(torch.tensor([[0.02, 0.3]]))
        stage.gate.bias.fill_(0.1)
    share = stage.mixture(idsf)
    assert 0 < share.min() < share.max() < 1
    gets_slopes(stage, stage(spectrum, idsf, bsm).idwl, (idsf,))
    assert stage.slopes.grad.all()
    assert stage.tables.grad.count_nonzero() > 190

    result = stage(spectrum, idsf, bsm)
    short = stage.layout.bsm_of_bfu(bsm) > 0
    heard = stage.audibility(stage.layout.maximum(spectrum, bsm).square()) > 0
    sizes = torch.from_numpy(BFU_SIZES) * (carries(result.n_bfu) & (heard | short))
    weight = torch.linspace(-1, 2, 52)

    def soft() -> torch.Tensor:
        wanted = stage.wanted(idsf.detach(), short)
        mean = (wanted * sizes).sum(-1, keepdim=True) / sizes.sum(-1, keepdim=True).clamp_min(1)
        return (weight * torch.where(sizes > 0, wanted - mean, 0.0)).sum()

    weights = [stage.slopes, stage.tables, stage.gate.weight, stage.gate.bias]
    hard = torch.autograd.grad((weight * result.idwl).sum(), weights)
    for got, want in zip(hard, torch.autograd.grad(soft(), weights), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    slopes_are_differences(weights, soft)


def test_threshold_gets_a_slope_through_the_audibility(build, frames):
    spectrum, _, bsm = frames
    stage = build(NeuralAllocator)
    stage.audibility(stage.layout.maximum(spectrum, bsm).square()).sum().backward()
    assert torch.equal(stage.threshold.grad, torch.full((52,), -90.0)), "-1 from each of the sound units"


def test_audibility_is_relative_to_the_loudness(build, generator):
    energy = torch.rand(4, 52, generator=generator)
    stage = build(NeuralAllocator)
    alone = stage.audibility(energy)
    torch.testing.assert_close(stage.audibility(energy, torch.full((4,), START)), alone)
    torch.testing.assert_close(stage.audibility(4 * energy, torch.full((4,), 4 * START)), alone)
    torch.testing.assert_close(stage.audibility(4 * energy), alone + 2)


def test_inaudible_frames_without_turns_get_no_bits(build, frames):
    spectrum, idsf, _ = frames
    stage = build(NeuralAllocator)
    with torch.no_grad():
        stage.threshold.fill_(100.0)
        stage.turn.fill_(NEVER)
    result = stage(spectrum, idsf, torch.zeros(3, 30, 3))
    assert not result.idwl.any()
    assert (result.n_bfu == 20).all()


def test_spare_bits_go_in_the_order_of_turns_that_come(build):
    stage = build(NeuralAllocator)
    with torch.no_grad():
        stage.turn.fill_(NEVER)
        stage.turn[[7, 30, 2]] = torch.tensor([0.5, -1.0, 1.49])
    assert stage.boosted == [30, 7, 2]


def test_slopes_of_the_learned_rules_are_finite_when_all_scale_factors_are_alike(build):
    idsf = torch.full((1, 52), 40.0, requires_grad=True)
    stage = build(NeuralAllocator)
    stage(torch.full((1, 512), 0.005), idsf, torch.zeros(1, 3)).idwl.square().sum().backward()
    assert torch.isfinite(idsf.grad).all()
    assert all(w.grad is None or torch.isfinite(w.grad).all() for w in stage.parameters())


def errors(allocation: Allocation, spectrum: torch.Tensor, bsm: torch.Tensor) -> torch.Tensor:
    """Return the square errors that an allocation leaves, in the unit of a long block's coefficient [*, 512]."""
    quantized = ReferenceQuantizer()(spectrum, allocation.idsf, allocation.idwl, bsm)
    decoded = ReferenceDequantizer()(quantized, allocation.idsf, allocation.idwl, bsm)
    layout = BfuLayout()
    return (decoded - spectrum).square() * torch.exp2(-layout.expand(layout.bsm_of_bfu(bsm), bsm))


def test_the_search_moves_scale_factors_and_leaves_less_error_than_the_reference(frames):
    spectrum, idsf, bsm = frames
    searched = RateDistortionAllocator(exponent=0.0)(spectrum, idsf, bsm)
    assert 0.2 < (searched.idsf != idsf)[searched.idwl > 0].float().mean() < 0.8
    error, reference = (
        errors(allocation, spectrum, bsm).sum(-1)[1:] for allocation in (searched, ReferenceAllocator()(*frames))
    )
    assert (error <= reference).float().mean() > 0.95
    assert (10 * (reference / error).log10()).mean() > 1


def test_exponents_trade_plain_for_masked_error(frames):
    spectrum, idsf, bsm = frames
    threshold = MaskingModel()(spectrum, bsm)
    plain, masked = (
        errors(RateDistortionAllocator(exponent)(spectrum, idsf, bsm), spectrum, bsm) for exponent in (0.0, 0.75)
    )
    louder, heard = plain.sum(-1)[1:].log10(), (masked / threshold**0.75).sum(-1)[1:].log10()
    assert (louder <= masked.sum(-1)[1:].log10()).float().mean() > 0.9
    assert (masked.sum(-1)[1:].log10() - louder).mean() > 0.1, "1 dB"
    assert (heard <= (plain / threshold**0.75).sum(-1)[1:].log10()).float().mean() > 0.9
    assert ((plain / threshold**0.75).sum(-1)[1:].log10() - heard).mean() > 0.1


def test_each_higher_exponent_leaves_more_error_and_less_above_the_threshold(frames):
    spectrum, idsf, bsm = frames
    threshold = MaskingModel()(spectrum, bsm)
    left = [errors(RateDistortionAllocator(x / 4)(spectrum, idsf, bsm), spectrum, bsm) for x in range(5)]
    plain = [error.sum(-1)[1:].log10().mean().item() for error in left]
    masked = [(error / threshold).sum(-1)[1:].log10().mean().item() for error in left]
    assert plain == sorted(plain)
    assert masked == sorted(masked, reverse=True)
    assert plain[4] - plain[3] > 0.02, "0.2 dB"


@pytest.mark.parametrize("exponent", [-0.01, 1.01, float("nan")])
def test_an_exponent_out_of_range_is_refused(exponent: float):
    with pytest.raises(ValueError, match=f"exponent = {exponent}, allowed 0 to 1"):
        RateDistortionAllocator(exponent)


def test_silence_is_searched_to_no_bits(frames):
    spectrum, idsf, bsm = (x[:1, :1] for x in frames)
    result = RateDistortionAllocator()(spectrum, idsf, bsm)
    assert not spectrum.any()
    assert not result.idwl.any()
    assert result.n_bfu == 20


def test_the_search_leaves_the_scale_factors_their_slope(frames):
    spectrum, idsf, bsm = frames
    idsf = idsf.clone().requires_grad_()
    result = RateDistortionAllocator()(spectrum, idsf, bsm)
    (slope,) = torch.autograd.grad((2 * result.idsf).sum(), idsf)
    assert torch.equal(slope, torch.full_like(idsf, 2))
    assert not result.idwl.requires_grad


@pytest.mark.parametrize(
    ("scale", "hidden"), [(0.1, 8), (1.0, 0), (1.0, 8), (5.0, 8), (25.0, 0), (125.0, 0)]
)  # from near to absurd
def test_whatever_the_weights_learned_importances_are_searched_legally(scale: float, hidden: int, build, frames):
    spectrum, _, bsm = frames
    stage = build(NeuralRateDistortionAllocator, hidden=hidden)
    with torch.no_grad():
        for weight in stage.parameters():
            weight += scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    for level in (1e-30, 1e-4, 1.0, 4.0):
        own = (level * spectrum).clamp(-2, 2)
        idsf = ReferenceScaler()(own, bsm)
        for loudness in LOUDNESSES:
            result = stage(own, idsf, bsm, loudness)
            assert result.idwl.requires_grad
            check_legal(result, idsf, moves=True)


@pytest.mark.parametrize("effort", ["fast", "default", "best"])
def test_every_effort_is_legal_and_none_is_a_setting(effort: str, build, frames):
    stage = build(NeuralRateDistortionAllocator, hidden=8, effort=effort)
    assert stage.effort == effort
    assert set(stage.settings) == {"hidden", "features"}
    assert not any("effort" in name for name in stage.state_dict())
    check_legal(stage(*frames), frames[1], moves=True)
    again = NeuralRateDistortionAllocator(**stage.settings)
    again.load_state_dict(stage.state_dict())
    assert again.effort == "default"
    assert torch.equal(again(*frames).idwl, stage(*frames).idwl) == (effort == "default")


@pytest.mark.parametrize("stage", SEARCHES)
def test_an_unknown_effort_is_refused(stage: type[Allocator]):
    with pytest.raises(ValueError, match=r"effort 'good', allowed fast, default, best$"):
        stage(effort="good")


def test_more_effort_leaves_less_of_the_error_that_importances_weigh(build, frames):
    spectrum, idsf, bsm = frames
    left = []
    for effort in ("fast", "default", "best"):
        stage = build(NeuralRateDistortionAllocator, effort=effort)
        with torch.no_grad():
            result, importance = stage(spectrum, idsf, bsm), stage.importance(spectrum, idsf, bsm)
        error = stage.importance.layout.sum(errors(result, spectrum, bsm), bsm)
        left.append(10 * (importance.exp2() * error).sum(-1)[1:].log10().flatten()[1:].mean().item())
    assert left[0] > left[1] + 0.2, "dB"
    assert left[2] < left[1] + 0.01, "next to nothing is left to find"


@pytest.mark.parametrize("effort", ["fast", "default", "best"])
def test_with_the_ear_models_importances_the_search_decides_as_that_of_the_ear_model(
    effort: str, build, frames, monkeypatch
):
    model, stage = RateDistortionAllocator(effort=effort), build(NeuralRateDistortionAllocator, effort=effort)
    other = stage(*frames)
    seen = []

    def forward(spectrum, idsf, bsm, loudness=None):
        seen.append(loudness)
        return model.importance(spectrum, bsm)

    monkeypatch.setattr(stage.importance, "forward", forward)
    got, want = stage(*frames, LOUDNESSES[1]), model(*frames)
    assert seen == [LOUDNESSES[1]]
    for name in ("n_bfu", "idwl", "idsf"):
        assert torch.equal(getattr(got, name), getattr(want, name)), name
    assert not torch.equal(other.idwl, want.idwl)


EAR_MODEL_ALIKE = 0.9
"""Share of word lengths that the form of importances leaves where the ear model has them; measured 0.98."""


@torch.no_grad()
def test_untrained_importances_decide_mostly_as_the_ear_model(build, frames):
    stage = build(NeuralRateDistortionAllocator, hidden=0, features=["spectrum"])
    got, want = stage(*frames), RateDistortionAllocator()(*frames)
    assert (got.idwl == want.idwl).float().mean() > EAR_MODEL_ALIKE
    assert (got.n_bfu == want.n_bfu).float().mean() > EAR_MODEL_ALIKE
    assert (got.idwl - want.idwl).abs().max() <= 2


def test_slope_of_searched_word_lengths_is_that_of_half_the_importance_less_its_mean(
    in_float64, build, frames, generator, monkeypatch
):
    spectrum, idsf, bsm = (x.double() for x in frames)
    stage = build(NeuralRateDistortionAllocator)
    importance = stage.importance(spectrum, idsf, bsm).detach().requires_grad_()
    monkeypatch.setattr(stage.importance, "forward", lambda *known: importance)
    result = stage(spectrum, idsf, bsm)
    carried = carries(result.n_bfu)
    assert not carried.all()
    weight = torch.randn(3, 30, 52, generator=generator, dtype=torch.float64)
    (slope,) = torch.autograd.grad((weight * result.idwl).sum(), importance)
    for channel, frame in ((0, 0), (1, 7), (2, 29), (0, 13)):
        n = int(result.n_bfu[channel, frame])
        sizes, own = torch.from_numpy(BFU_SIZES)[:n].double(), weight[channel, frame, :n]
        expected = torch.zeros(52)
        expected[:n] = 0.5 * (own - own.sum() * sizes / sizes.sum())
        torch.testing.assert_close(slope[channel, frame], expected, rtol=0, atol=1e-12)
    assert torch.equal(slope != 0, carried)
    # What all BFUs have in common does not move them.
    torch.testing.assert_close(slope.sum(-1), torch.zeros(3, 30), rtol=0, atol=1e-12)


def test_every_number_of_learned_importances_gets_the_slope_of_the_word_lengths(
    in_float64, build, frames, gets_slopes, slopes_are_differences, generator
):
    spectrum, idsf, bsm = (x.double() for x in frames)
    stage = build(NeuralRateDistortionAllocator, hidden=8)
    with torch.no_grad():  # so that the network says something
        stage.importance.network[-1].weight *= 100
    result = stage(spectrum, idsf, bsm)
    gets_slopes(stage, result.idwl)
    assert stage.importance.spread.grad.count_nonzero() > 0.9 * stage.importance.spread.numel()
    sizes = torch.from_numpy(BFU_SIZES) * carries(result.n_bfu)
    weight = torch.randn(3, 30, 52, generator=generator, dtype=torch.float64)

    def soft() -> torch.Tensor:
        half = stage.importance(spectrum, idsf, bsm) / 2
        mean = (half * sizes).sum(-1, keepdim=True) / sizes.sum(-1, keepdim=True)
        return (weight * torch.where(sizes > 0, half - mean, 0.0)).sum()

    weights = list(stage.parameters())
    hard = torch.autograd.grad((weight * stage(spectrum, idsf, bsm).idwl).sum(), weights)
    for got, want in zip(hard, torch.autograd.grad(soft(), weights), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    slopes_are_differences(weights, soft)


def test_learned_importances_leave_the_scale_factors_their_slope_and_give_them_none(build, frames):
    spectrum, idsf, bsm = frames
    spectrum, idsf = spectrum.clone().requires_grad_(), idsf.clone().requires_grad_()
    result = build(NeuralRateDistortionAllocator)(spectrum, idsf, bsm)
    (slope,) = torch.autograd.grad((2 * result.idsf).sum(), idsf)
    assert torch.equal(slope, torch.full_like(idsf, 2))
    assert result.idwl.requires_grad
    assert torch.autograd.grad(result.idwl.sum(), (spectrum, idsf), allow_unused=True) == (None, None)


@torch.no_grad()
def test_what_is_more_important_gets_more_bits(build, frames):
    stage = build(NeuralRateDistortionAllocator, hidden=8)
    before = stage(*frames).idwl
    stage.importance.network[-1].weight.zero_()
    stage.importance.network[-1].bias[10:20] = 3.0
    after = stage(*frames).idwl
    more = (after - before)[:, :, 10:20].mean(), (after - before)[:, :, :10].mean()
    assert more[0] > 0.5
    assert more[1] < 0


def test_silence_is_searched_to_no_bits_whatever_is_important(build, frames):
    silence = torch.zeros(1, 512)
    result = build(NeuralRateDistortionAllocator)(silence, torch.zeros(1, 52), torch.zeros(1, 3))
    assert not result.idwl.any()
    assert result.n_bfu == 20
