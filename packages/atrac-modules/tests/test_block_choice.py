from __future__ import annotations

import math

import pytest
import torch

from atrac_modules import NeuralEntropyTransient, RateDistortionTransient, ReferenceMdct, ReferenceQmf

EDGE_SHARE = 0.1
"""Share of the frames of a steady sine where two bands meet that may be split: it beats with its mirror image, which
the other band holds. Measured 0.07."""
BATCHED = 1e-5
"""Of float32 sums, which other numbers of rows add up in another order; measured 4e-7."""
SHORT = torch.tensor([2.0, 2.0, 3.0])
BANDS = ((slice(0, 128), 4), (slice(128, 256), 4), (slice(256, 512), 8))
"""Each band and its number of short blocks."""


def steady(kind: str, generator: torch.Generator) -> torch.Tensor:
    """Return 60 frames of PCM [1, T]: noise, or a sine of so many Hz."""
    if kind == "noise":
        return 0.1 * torch.randn(1, 512 * 60, generator=generator)
    time = torch.arange(512 * 60, dtype=torch.float64)[None] / 44100
    return (0.5 * torch.sin(2 * math.pi * float(kind) * time)).float()


@pytest.mark.parametrize("kind", ["noise", "100", "440", "1000", "8000", "15000", "5512", "11025"])
def test_the_search_leaves_steady_sounds_long(kind: str, generator):
    bsm = RateDistortionTransient()(ReferenceQmf()(steady(kind, generator)))[0, 2:]  # the start is an attack
    assert (bsm > 0).any(-1).float().mean() <= (EDGE_SHARE if kind in ("5512", "11025") else 0)


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
    # Noise before an attack is weighted by the threshold there: without that, 8 in 10 would be split.
    noise = 0.1 * torch.randn(40, 512 * 4, generator=generator)
    noise[:, 512 * 3 + 300 :] *= 10**0.5
    bsm = RateDistortionTransient()(ReferenceQmf()(noise))
    assert (bsm[:, 3] > 0).float().mean() > 0.9
    assert not bsm[:, 1:3].any()


def test_decisions_of_the_search_are_independent_of_the_rest_of_the_batch(jumping_bands, generator):
    stage, loud = RateDistortionTransient(), torch.randn(1, 8, 512, generator=generator)
    bsm = stage(jumping_bands)
    assert 0.1 < (bsm > 0).any(-1).float().mean() < 0.9, "or all or no frames are tried"
    for others in (torch.zeros_like(loud), loud * 10.0 ** -torch.arange(8)[:, None]):
        assert torch.equal(stage(torch.cat([others, jumping_bands]))[1:], bsm)
    # Blocks overlap with those of the frame before, and with none further back.
    assert torch.equal(stage(jumping_bands[:, 3:])[:, 1:], bsm[:, 4:])


@pytest.mark.parametrize("level", [0.0, 1e-40, 1e-30, 1e5])
def test_the_search_decides_legally_at_every_level(level: float, jumping_bands):
    bsm = RateDistortionTransient()(level * jumping_bands)
    assert ((bsm == 0) | (bsm == SHORT)).all()
    assert level > 1e-20 or not bsm.any(), "silence is steady"


def constant(stage: NeuralEntropyTransient, logit: float) -> NeuralEntropyTransient:
    """Return the stage with a network that has the same output for every frame and band."""
    with torch.no_grad():
        stage.network[-1].weight.zero_()
        stage.network[-1].bias.fill_(logit)
    return stage


def inputs_of(stage: NeuralEntropyTransient) -> list[torch.Tensor]:
    """Return the list to which each input of the network will be added."""
    seen: list[torch.Tensor] = []
    stage.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    return seen


def blocks(*levels: float) -> torch.Tensor:
    """Return a frame whose blocks of 32 samples have these root mean squares in all bands, four after four [512]."""
    signs = torch.tensor([1.0, -1.0]).repeat(16)
    return torch.cat([level * signs for level in levels]).repeat(4)


@pytest.mark.parametrize(("up", "unsteady"), [(7.9, False), (8.1, True)])
def test_frames_with_9_db_within_any_band_are_unsteady(up: float, unsteady: bool, build):
    stage = constant(build(NeuralEntropyTransient), 1.0)
    frames = torch.stack([blocks(1, 1, 1, 1), blocks(1, 1, up**0.5, 1)])
    assert torch.equal(stage(frames), torch.stack([0 * SHORT, unsteady * SHORT]))
    for own, _ in BANDS:  # one band is enough
        one = frames[:1].expand(2, 512).clone()
        one[1, own] = frames[1, own]
        assert stage.excess(one)[1].tolist() == [False, unsteady]
    # A step between two frames is in neither.
    assert not stage.excess(torch.stack([frames[0], 100 * frames[0]]))[1].any()


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-7, 1e5])
def test_levels_below_16_bits_are_silence(level: float, build, jumping_bands):
    stage, bands = constant(build(NeuralEntropyTransient), 1.0), level * jumping_bands / jumping_bands.abs().max()
    excess, unsteady = stage.excess(bands)
    assert torch.isfinite(excess).all()
    assert unsteady.any() == stage(bands).any() == (level > 1)


def test_the_network_sees_the_bits_of_both_kinds_of_blocks_and_the_energies(in_float64, build, jumping_bands):
    stage, bands = build(NeuralEntropyTransient), jumping_bands.double()
    bands[0, 3] = blocks(1, 1, 4, 4)
    seen = inputs_of(stage)
    excess, unsteady = stage.excess(bands)
    assert len(seen[0]) == unsteady.sum() > 5, "asked about unsteady frames only"
    assert excess[unsteady].all()
    assert not excess[~unsteady].any()
    long, short = (ReferenceMdct()(bands, mode.expand(3, 8, 3))[unsteady].square() for mode in (0 * SHORT, SHORT))
    before = torch.cat([torch.zeros(3, 1, 512), bands[:, :-1]], 1)[unsteady]
    expected = []
    for own, n_blocks in BANDS:
        bits_long = (long[:, own] + 2.0**-32).log2().mean(-1, keepdim=True)
        bits_short = (short[:, own] / n_blocks + 2.0**-32).log2().mean(-1, keepdim=True)
        samples = torch.cat([before[:, own][:, -32:], bands[unsteady][:, own]], -1).unflatten(-1, (-1, 32))
        energy = (samples.square().mean(-1) / 512 + 2.0**-32).log2()
        expected += [bits_short - bits_long, bits_long / 8 + 2, energy - energy.mean(-1, keepdim=True)]
    torch.testing.assert_close(seen[0], torch.cat(expected, -1), rtol=0, atol=1e-9)
    stage(torch.zeros(2, 3, 512))
    assert len(seen) == 1


def test_a_frame_is_decided_by_itself_and_the_end_of_the_one_before(build, jumping_bands, generator):
    stage, bands, t = build(NeuralEntropyTransient), jumping_bands, 3
    excess, unsteady = stage.excess(bands)
    assert unsteady[:, t].any()
    other = torch.randn(3, 8, 512, generator=generator)
    moved = other.clone()
    moved[:, t - 1 : t + 1] = bands[:, t - 1 : t + 1]
    for own, _ in BANDS:  # of the frame before, blocks overlap with the last 32 samples of each band
        moved[:, t - 1, own][:, :-32] = 0
    torch.testing.assert_close(stage.excess(moved)[0][:, t], excess[:, t], rtol=0, atol=BATCHED)
    before = bands.clone()
    before[:, t - 1] = other[:, t - 1]
    changed = (stage.excess(before)[0] - excess)[:, t].abs().amax(-1) > 100 * BATCHED
    assert changed.equal(unsteady[:, t])
    silent = torch.cat([torch.zeros(3, 1, 512), bands], 1)
    torch.testing.assert_close(stage.excess(silent)[0][:, 1:], excess, rtol=0, atol=BATCHED)


def test_every_weight_of_the_network_has_the_slope_of_its_logistic_function(
    in_float64, build, gets_slopes, slopes_are_differences, jumping_bands, generator
):
    bands, stage = jumping_bands.double().requires_grad_(), build(NeuralEntropyTransient)
    gets_slopes(stage, stage(bands))
    assert bands.grad is None, "the slopes of logarithms of quiet blocks would outweigh all others"
    weight = torch.randn(3, 8, 3, generator=generator, dtype=torch.float64)
    unsteady = stage.excess(bands)[1]

    def curve() -> torch.Tensor:
        return (weight * SHORT * stage.excess(bands)[0].sigmoid())[unsteady].sum()

    slopes_are_differences(list(stage.parameters()), curve, hard=lambda: (weight * stage(bands)).sum())
