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
