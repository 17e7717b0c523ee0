from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from atrac_modules import (
    BitExactTransient,
    NeuralEntropyTransient,
    NeuralTransient,
    RateDistortionTransient,
    ReferenceMdct,
    ReferenceQmf,
    ReferenceTransient,
    Transient,
)
from atrac_modules.transient import BLOCK, FALL, RISE, _excess, high_pass_matrix


def taught() -> NeuralTransient:
    """Return the learned stage with the reference codec's filter and thresholds."""
    stage = NeuralTransient(taps=21)
    taps = torch.from_numpy(high_pass_matrix())[:21, 0]
    # In mid and high every other sample is turned round before the filter: as well every other tap.
    turned = taps * (-1.0) ** torch.arange(21)
    # Levels here are 10 log10(power) with thresholds in 10 dB, there 19 log10(rms) = 9.5 log10(power).
    with torch.no_grad():
        stage.filters.zero_()
        stage.filters[:, 2] = torch.stack([taps, turned, turned])
        stage.rise.fill_(RISE / 9.5)
        stage.fall.fill_(FALL / 9.5)
    return stage


STAGES = [ReferenceTransient, BitExactTransient, NeuralTransient, RateDistortionTransient, NeuralEntropyTransient]
DETECTORS = [ReferenceTransient, BitExactTransient, taught]
"""Those that decide as the reference codec does."""


@pytest.fixture
def bands(generator) -> torch.Tensor:
    """Noise that jumps up and down."""
    noise = torch.randn(3, 8, 8, 64, generator=generator)
    levels = torch.randint(0, 4, (3, 8, 8, 1), generator=generator)
    levels[:, 4:] = levels[:, 4:, :1]  # from frame to frame only
    return (noise * 10.0**-levels).flatten(-2)


@pytest.mark.parametrize("stage", STAGES)
def test_transient_keeps_the_contract(stage: type[Transient], build, keeps_contract, bands):
    keeps_contract(build(stage), (bands,), ((8, 3),))
    bsm = build(stage)(bands)
    assert set(bsm[..., :2].unique().tolist()) == {0, 2}
    assert set(bsm[..., 2].unique().tolist()) == {0, 3}


@pytest.mark.parametrize("stage", DETECTORS)
def test_transient_equals_golden(stage, golden):
    assert torch.equal(stage()(golden.qmf), golden.bsm)


@pytest.mark.parametrize("stage", DETECTORS)
def test_silence_is_short_in_the_first_frame_and_long_after(stage):
    assert stage()(torch.zeros(3, 512)).tolist() == [[2, 2, 3], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("stage", DETECTORS)
@pytest.mark.parametrize(("band", "first"), [(0, 0), (1, 128), (2, 256)])
def test_an_attack_is_found_in_its_band_and_frame(stage, band: int, first: int, generator):
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


def test_neural_transient_with_the_reference_filter_decides_as_the_reference(generator):
    bands = torch.randn(4, 50, 512, generator=generator) * 10.0 ** -torch.randint(0, 4, (4, 50, 1), generator=generator)
    bands[2, 10:20] = 0
    bsm = ReferenceTransient()(bands)
    assert 0.1 < (bsm > 0).float().mean() < 0.9
    assert torch.equal(taught()(bands), bsm)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_weights_a_block_is_long_or_short(seed: int, build, bands):
    stage = build(NeuralTransient, seed, taps=5 + 4 * seed)
    for x in (bands, 1e-15 * bands, torch.zeros_like(bands), bands.clone().requires_grad_()):
        bsm = stage(x)
        assert set(bsm[..., :2].unique().tolist()) <= {0, 2}
        assert set(bsm[..., 2].unique().tolist()) <= {0, 3}


def test_excess_matches_a_loop_over_filter_power_and_change(in_float64, build, generator):
    stage = build(NeuralTransient, taps=6)
    bands = torch.randn(3, 512, generator=generator, dtype=torch.float64)
    bands[1] *= 100
    excess = stage.excess(bands)
    for band, (start, stop) in enumerate([(0, 128), (128, 256), (256, 512)]):
        samples = [0.0] * 5 + bands[:, start:stop].flatten().tolist()
        energies = [0.0] * (3 * (stop - start))
        for taps in stage.filters[band].tolist():
            filtered = [sum(w * x for w, x in zip(taps, samples[i : i + 6])) for i in range(len(energies))]
            energies = [energy + y * y for energy, y in zip(energies, filtered)]
        powers = [sum(energies[i : i + 16]) / 16 for i in range(0, len(energies), 16)]
        levels = [0.0, *(10 * math.log10(power) for power in powers)]
        rise, fall = 10 * stage.rise[band].item(), 10 * stage.fall[band].item()
        beyond = [max(b - a - rise, a - b - fall) for a, b in pairwise(levels)]
        assert excess[band].shape == (3, (stop - start) // 16)
        assert excess[band].flatten().tolist() == pytest.approx(beyond, abs=1e-9)


def test_every_weight_of_the_detector_gets_the_slope_of_its_logistic_curve(
    in_float64, build, gets_slopes, slopes_are_differences, generator
):
    loud = 10.0 ** (torch.randint(0, 2, (40, 1), generator=generator) / 2)
    bands = (torch.randn(40, 512, generator=generator, dtype=torch.float64) * loud).requires_grad_()
    stage, weight = build(NeuralTransient), torch.randn(40, 3, generator=generator, dtype=torch.float64)
    gets_slopes(stage, stage(bands), (bands,))
    assert all(w.grad.all() for w in stage.parameters())

    slopes = torch.autograd.grad((weight * stage(bands)).sum(), list(stage.parameters()))

    def curve() -> torch.Tensor:
        largest = torch.stack([excess.amax(-1) for excess in stage.excess(bands)], -1)
        soft = torch.sigmoid(largest * stage.steepness.exp())
        return (weight * torch.tensor([2.0, 2.0, 3.0]) * soft).sum()

    for got, want in zip(slopes, torch.autograd.grad(curve(), list(stage.parameters())), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    slopes_are_differences(list(stage.parameters()), curve)


def test_slopes_of_the_detector_are_finite_on_silence(build):
    bands = torch.zeros(2, 4, 512, requires_grad=True)
    stage = build(NeuralTransient)
    stage(bands).sum().backward()
    assert torch.isfinite(bands.grad).all()
    assert all(torch.isfinite(w.grad).all() for w in stage.parameters())


EDGE_SHARE = 0.1
"""Share of the frames of a steady sine where two bands meet that may be split: it beats with its mirror image, which
the other band holds. Measured 0.07."""


def steady(kind: str, generator: torch.Generator) -> torch.Tensor:
    """Return 60 frames of PCM [1, T]: noise, or a sine of so many Hz."""
    if kind == "noise":
        return 0.1 * torch.randn(1, 512 * 60, generator=generator)
    return (
        0.5 * torch.sin(2 * math.pi * float(kind) / 44100 * torch.arange(512 * 60, dtype=torch.float64)[None]).float()
    )


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("noise", 0),
        ("100", 0),
        ("440", 0),
        ("1000", 0),
        ("8000", 0),
        ("15000", 0),
        ("5512", EDGE_SHARE),
        ("11025", EDGE_SHARE),
    ],
)
def test_the_search_leaves_what_is_steady_long(kind: str, most: float, generator):
    bsm = RateDistortionTransient()(ReferenceQmf()(steady(kind, generator)))[0, 2:]  # the start is an attack
    assert (bsm > 0).any(-1).float().mean() <= most


@pytest.mark.parametrize("exponent", [0.75, 1.0])
@pytest.mark.parametrize("lead", [1e-5, 1e-3])
def test_the_search_splits_the_frame_in_which_a_sound_begins(lead: float, exponent: float, generator):
    pcm = lead * torch.randn(1, 512 * 12, generator=generator)
    pcm[:, 512 * 6 + 200 :] += 0.3 * torch.randn(1, 512 * 6 - 200, generator=generator)
    bsm = RateDistortionTransient(exponent)(ReferenceQmf()(pcm))[0]
    assert bsm[6].tolist() == [2, 2, 3]
    assert not bsm[1:6].any()
    assert not bsm[7:].any()


def test_the_search_splits_most_attacks_of_10_db(generator):
    # Noise before an attack costs what it costs at the threshold there: without that, 8 in 10 would be split.
    noise = 0.1 * torch.randn(40, 512 * 6, generator=generator)
    noise[:, 512 * 3 + 300 :] *= 10**0.5
    bsm = RateDistortionTransient()(ReferenceQmf()(noise))
    assert (bsm[:, 3] > 0).float().mean() > 0.9
    assert not bsm[:, 1:3].any()


@pytest.mark.parametrize(("band", "first"), [(0, 0), (1, 128), (2, 256)])
def test_the_search_splits_the_band_of_an_attack(band: int, first: int, generator):
    bands = 1e-3 * torch.randn(6, 512, generator=generator)
    bands[3, first + 64 : first + (256 if band == 2 else 128)] *= 1000
    found = RateDistortionTransient()(bands)
    assert found[3, band] > 0
    assert not found[[1, 2, 4, 5]].any()


def test_what_the_search_decides_hangs_on_nothing_else_in_the_batch(bands, generator):
    stage, loud = RateDistortionTransient(), torch.randn(1, 8, 512, generator=generator)
    bsm = stage(bands)
    assert 0.1 < (bsm > 0).any(-1).float().mean() < 0.9, "or all or nothing is looked at"
    for others in (torch.zeros_like(loud), loud, loud * 10.0 ** -torch.arange(8)[:, None]):
        assert torch.equal(stage(torch.cat([others, bands]))[1:], bsm)
    # A frame's blocks overlap with the one before, and hang on nothing further back.
    assert torch.equal(stage(bands[:, 3:])[:, 1:], bsm[:, 4:])


@pytest.mark.parametrize("exponent", [-0.01, 1.01, float("nan")])
def test_an_exponent_out_of_range_is_refused(exponent: float):
    with pytest.raises(ValueError, match=f"exponent = {exponent}, allowed 0 to 1"):
        RateDistortionTransient(exponent)


@pytest.mark.parametrize("level", [0.0, 1e-40, 1e-30, 1e5])
def test_the_search_decides_legally_whatever_the_level(level: float, bands):
    bsm = RateDistortionTransient()(level * bands)
    assert torch.isin(bsm[..., :2], torch.tensor([0.0, 2.0])).all()
    assert torch.isin(bsm[..., 2], torch.tensor([0.0, 3.0])).all()
    assert level > 1e-20 or not bsm.any(), "silence is steady"


BATCHED = 1e-5
"""Of float32 sums over what the network sees, which other numbers of rows add up in another order; measured 4e-7."""


def leaning(stage: NeuralEntropyTransient, said: float) -> NeuralEntropyTransient:
    """Return the stage with a network that says the same of every frame and band."""
    with torch.no_grad():
        stage.network[-1].weight.zero_()
        stage.network[-1].bias.fill_(said)
    return stage


def asked(stage: NeuralEntropyTransient) -> list[torch.Tensor]:
    """Return the list that what the network sees will be added to."""
    seen: list[torch.Tensor] = []
    stage.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    return seen


def blocks(*levels: float) -> torch.Tensor:
    """Return a frame whose 32 samples long blocks have these root mean squares in all bands, four after four [512]."""
    turns = torch.tensor([1.0, -1.0]).repeat(16)
    band = torch.cat([level * turns for level in levels])
    return torch.cat([band, band, band, band])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_weights_steady_frames_stay_long(seed: int, build, bands):
    stage = build(NeuralEntropyTransient, seed)
    with torch.no_grad():
        for weight in stage.parameters():
            weight += 10.0 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    leaned = leaning(build(NeuralEntropyTransient), 100.0)
    unsteady = stage.excess(bands)[1]
    assert 0.2 < unsteady.float().mean() < 0.8
    assert not stage(bands)[~unsteady].any()
    assert torch.equal(leaned(bands), unsteady[..., None] * torch.tensor([2.0, 2.0, 3.0]))


@pytest.mark.parametrize(("up", "looked_at"), [(7.9, False), (8.1, True)])
@pytest.mark.parametrize("loud", [0.1, 10.0])
def test_frames_are_looked_at_from_9_db_within_any_band_on(loud: float, up: float, looked_at: bool, build):
    stage = leaning(build(NeuralEntropyTransient), 1.0)
    frames = torch.stack([blocks(loud, loud, loud, loud), blocks(loud, loud, up**0.5 * loud, loud)])
    assert stage.excess(frames)[1].tolist() == [False, looked_at]
    assert stage(frames).tolist() == [[0.0, 0.0, 0.0], [2.0 * looked_at, 2.0 * looked_at, 3.0 * looked_at]]
    for own in (slice(0, 128), slice(128, 256), slice(256, 512)):  # one band will do
        one = frames[:1].expand(2, 512).clone()
        one[1, own] = frames[1, own]
        assert stage.excess(one)[1].tolist() == [False, looked_at]
    # A step between two frames is in neither.
    assert not stage.excess(torch.stack([frames[0], 100 * frames[0]]))[1].any()


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-7, 1e5])
def test_what_16_bits_round_off_is_silence(level: float, build, bands):
    stage = leaning(build(NeuralEntropyTransient), 1.0)
    excess, unsteady = stage.excess(level * bands / bands.abs().max())
    assert torch.isfinite(excess).all()
    assert unsteady.any() == (level > 1)
    assert stage(level * bands / bands.abs().max()).any() == (level > 1)


def test_the_network_is_asked_of_unsteady_frames_only(build, bands):
    stage = build(NeuralEntropyTransient)
    seen = asked(stage)
    excess, unsteady = stage.excess(bands)
    assert [len(x) for x in seen] == [int(unsteady.sum())]
    assert 0 < unsteady.sum() < unsteady.numel()
    assert not excess[~unsteady].any()
    assert excess[unsteady].all()
    stage(blocks(1, 1, 1, 1).expand(2, 3, 512))
    stage(torch.zeros(2, 3, 512))
    assert len(seen) == 1


def test_what_the_network_sees_is_worked_out_at_a_jump(build):
    stage = build(NeuralEntropyTransient)
    seen = asked(stage)
    stage(torch.stack([blocks(1, 1, 1, 1), blocks(1, 1, 4, 4)]))
    (row,) = seen[0]
    start = 0
    for n_blocks in (4, 4, 8):
        difference, level, *energies = row[start : start + n_blocks + 3].tolist()
        # 4, 4, 8 energies of the frame and one of the frame before; those of 4 times the samples are 16 times as high.
        high = [0.0] * (1 + n_blocks)
        for block in range(n_blocks):
            high[1 + block] = 4.0 * (block % 4 > 1)
        assert energies == pytest.approx([x - sum(high) / len(high) for x in high], abs=1e-5)
        assert -2 < level < 2
        assert abs(difference) > 0.1
        start += n_blocks + 3
    assert start == len(row)


def test_the_network_sees_how_much_either_kind_of_block_leaves_to_code(in_float64, build, bands):
    stage, bands = build(NeuralEntropyTransient), bands.double()
    seen = asked(stage)
    unsteady = stage.excess(bands)[1]
    modes = torch.tensor([2.0, 2.0, 3.0]).expand(3, 8, 3)
    long, short = (ReferenceMdct()(bands, bsm)[unsteady].square() for bsm in (torch.zeros(3, 8, 3), modes))
    assert len(seen[0]) == len(long) > 5
    start = 0
    for own, n_blocks in ((slice(0, 128), 4), (slice(128, 256), 4), (slice(256, 512), 8)):
        bits_long = (long[:, own] + 2.0**-32).log2().mean(-1)
        bits_short = (short[:, own] / n_blocks + 2.0**-32).log2().mean(-1)
        for got, expected in ((0, bits_short - bits_long), (1, bits_long / 8 + 2)):
            torch.testing.assert_close(seen[0][:, start + got], expected, rtol=0, atol=1e-9)
        start += n_blocks + 3


def test_a_frame_is_decided_by_itself_and_the_end_of_the_one_before(build, bands, generator):
    stage = build(NeuralEntropyTransient)
    excess, unsteady = stage.excess(bands)
    for t in range(2, 7):
        for other in (*range(t - 1), *range(t + 1, 8)):
            moved = bands.clone()
            moved[:, other] = torch.randn(3, 512, generator=generator)
            got = stage.excess(moved)[0][:, t]
            torch.testing.assert_close(got, excess[:, t], rtol=0, atol=BATCHED)
            assert torch.equal(stage(moved)[:, t], stage(bands)[:, t])
        before = bands.clone()
        before[:, t - 1] = torch.randn(3, 512, generator=generator)
        changed = (stage.excess(before)[0] - excess)[:, t]
        assert (changed.abs().amax(-1) > 100 * BATCHED).equal(unsteady[:, t])
        # Of the frame before, blocks overlap with the last samples of each band and no others.
        before = bands.clone()
        for last in (128 - 32, 256 - 32, 512 - 32):
            before[:, t - 1, last - (96 if last < 300 else 224) : last] = 0
        torch.testing.assert_close(stage.excess(before)[0][:, t], excess[:, t], rtol=0, atol=BATCHED)
    for others in (torch.zeros(1, 8, 512), torch.randn(1, 8, 512, generator=generator)):
        assert torch.equal(stage(torch.cat([others, bands]))[1:], stage(bands))
    torch.testing.assert_close(stage.excess(bands[:, 3:])[0][:, 1:], excess[:, 4:], rtol=0, atol=BATCHED)


def test_before_the_first_frame_is_silence(build, bands):
    stage = build(NeuralEntropyTransient)
    silent = torch.cat([torch.zeros(3, 1, 512), bands], 1)
    torch.testing.assert_close(stage.excess(silent)[0][:, 1:], stage.excess(bands)[0], rtol=0, atol=BATCHED)


def test_every_weight_of_the_network_gets_the_slope_of_its_logistic_curve(
    in_float64, build, gets_slopes, slopes_are_differences, bands, generator
):
    bands, stage = bands.double().requires_grad_(), build(NeuralEntropyTransient)
    gets_slopes(stage, stage(bands))
    assert bands.grad is None, "the slopes of logarithms of quiet blocks would drown all others"
    weight = torch.randn(3, 8, 3, generator=generator, dtype=torch.float64)
    slopes = torch.autograd.grad((weight * stage(bands)).sum(), list(stage.parameters()))
    unsteady = stage.excess(bands)[1]

    def curve() -> torch.Tensor:
        soft = 1 / (1 + torch.exp(-stage.excess(bands)[0]))
        return (weight * torch.tensor([2.0, 2.0, 3.0]) * soft)[unsteady].sum()

    for got, want in zip(slopes, torch.autograd.grad(curve(), list(stage.parameters())), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    slopes_are_differences(list(stage.parameters()), curve)


def test_steady_frames_alone_leave_the_network_without_a_slope(build):
    bands = blocks(1, 1, 1, 1).expand(2, 3, 512).clone().requires_grad_()
    stage = build(NeuralEntropyTransient)
    (stage(bands).sum() + bands.sum()).backward()
    assert torch.isfinite(bands.grad).all()
    assert all(w.grad is None or not w.grad.any() for w in stage.parameters())


@pytest.mark.parametrize("soft", [False, True])
def test_while_a_graph_is_captured_all_frames_are_weighed_to_the_same_end(soft: bool, build, bands, monkeypatch):
    stage, weights = build(NeuralEntropyTransient), torch.linspace(-1, 2, 3)
    steady = blocks(1, 1, 1, 1).expand(1, 8, 512)
    results = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda compiling=compiling: compiling)
        own = torch.cat([bands, steady]).requires_grad_(soft)
        stage.zero_grad()
        seen = asked(stage)
        excess, unsteady = stage.excess(own)
        assert len(seen[0].flatten(0, -2)) == (32 if compiling else int(unsteady.sum()))
        bsm = stage(own)
        slopes = []
        if soft:
            (weights * bsm).sum().backward()
            slopes = [own.grad, *(w.grad.clone() for w in stage.parameters())]
        results.append((bsm.detach(), excess[unsteady].detach(), *slopes))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][0].any()
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=BATCHED)


@pytest.mark.filterwarnings("default")  # torch's own
def test_the_network_compiles_to_one_graph(build, bands):
    stage = build(NeuralEntropyTransient)
    torch.compiler.reset()
    compiled = torch.compile(stage, fullgraph=True, backend="eager")
    assert torch.equal(compiled(bands), stage(bands))
    assert torch.equal(compiled(0.1 * bands.flip(0)), stage(0.1 * bands.flip(0)))
    torch.compiler.reset()
