from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

import atrac_modules as m
from atrac_modules.transient import BLOCK, FALL, RISE, _excess, high_pass_matrix


def taught() -> m.NeuralTransient:
    """Return the learned stage with the reference codec's filter and thresholds."""
    stage = m.NeuralTransient(taps=21)
    taps = torch.from_numpy(high_pass_matrix())[:21, 0]
    # In mid and high the sign of every other sample changes before the filter: as well that of every other tap.
    alternating = taps * (-1.0) ** torch.arange(21)
    # Levels here are 10 log10(power) with thresholds in 10 dB, there 19 log10(rms) = 9.5 log10(power).
    with torch.no_grad():
        stage.filters.zero_()
        stage.filters[:, 2] = torch.stack([taps, alternating, alternating])
        stage.rise.fill_(RISE / 9.5)
        stage.fall.fill_(FALL / 9.5)
    return stage


STAGES = [
    m.ReferenceTransient,
    m.BitExactTransient,
    m.NeuralTransient,
    m.RateDistortionTransient,
    m.NeuralEntropyTransient,
]
LIKE_REFERENCE = [m.ReferenceTransient, m.BitExactTransient, taught]
"""Those that decide as the reference codec does."""


@pytest.mark.parametrize("stage", STAGES)
def test_transient_keeps_the_contract(stage: type[m.Transient], build, keeps_contract, jumping_bands):
    keeps_contract(build(stage), (jumping_bands,), ((8, 3),))
    bsm = build(stage)(jumping_bands)
    assert set(bsm[..., :2].unique().tolist()) == {0, 2}
    assert set(bsm[..., 2].unique().tolist()) == {0, 3}


@pytest.mark.parametrize("stage", LIKE_REFERENCE)
def test_transient_equals_golden(stage, golden):
    assert torch.equal(stage()(golden.qmf), golden.bsm)


@pytest.mark.parametrize("stage", LIKE_REFERENCE)
def test_silence_is_short_in_the_first_frame_and_long_after(stage):
    assert stage()(torch.zeros(3, 512)).tolist() == [[2, 2, 3], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("stage", [*LIKE_REFERENCE, m.RateDistortionTransient])
@pytest.mark.parametrize(("band", "first"), [(0, 0), (1, 128), (2, 256)])
def test_an_attack_is_found_in_its_band_and_frame(stage, band: int, first: int, generator):
    bands = 1e-3 * torch.randn(6, 512, generator=generator)
    bands[3, first + 64 : first + (256 if band == 2 else 128)] *= 1000
    found = stage()(bands)
    assert found[3, band] > 0
    assert not found[1:3].any()


def test_thresholds_are_16_up_and_20_down():
    level = torch.tensor([0.0, 16.0, 16.0, -4.0, 12.1, -8.0]).reshape(1, 6)
    assert (_excess(level, 6)[0, :, 0] > 0).tolist() == [False, False, False, False, True, True]
    assert (RISE, FALL, BLOCK) == (16, 20, 16)


def test_the_frame_before_gives_the_level_before(generator):
    bands = torch.randn(6, 512, generator=generator)
    assert torch.equal(m.ReferenceTransient()(bands)[2:], m.ReferenceTransient()(bands[1:])[1:])


@pytest.mark.parametrize("stage", [m.ReferenceTransient, m.NeuralTransient])
def test_slopes_are_finite_on_silence(stage: type[m.Transient], build):
    bands = torch.zeros(2, 4, 512, requires_grad=True)
    module = build(stage)
    module(bands).sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (bands, *module.parameters()))


def test_neural_transient_with_the_reference_filter_is_the_reference_in_slope_too(in_float64, generator):
    level = 10.0 ** -torch.randint(0, 4, (4, 20, 1), generator=generator)
    bands = (torch.randn(4, 20, 512, generator=generator, dtype=torch.float64) * level).requires_grad_()
    stage, weight = taught(), torch.linspace(-1, 2, 3)
    with torch.no_grad():
        stage.steepness.fill_(math.log(0.95 / 4))  # per 10 log10(power)
    results = [module(bands) for module in (m.ReferenceTransient(width=4.0), stage)]
    assert 0.1 < (results[0] > 0).double().mean() < 0.9
    assert torch.equal(*results)
    slopes = [torch.autograd.grad((weight * result)[:, 1:].sum(), bands)[0] for result in results]
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_block_is_long_or_short_for_any_weights(seed: int, build, jumping_bands):
    stage = build(m.NeuralTransient, seed, taps=5 + 8 * seed)
    for level in (1.0, 1e-15, 0.0):
        bsm = stage((level * jumping_bands).requires_grad_())
        assert set(bsm[..., :2].unique().tolist()) <= {0, 2}
        assert set(bsm[..., 2].unique().tolist()) <= {0, 3}


def test_excess_matches_a_loop_over_filter_power_and_change(in_float64, build, generator):
    stage = build(m.NeuralTransient, taps=6)
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


def test_every_weight_of_the_detector_has_the_slope_of_its_logistic_function(
    in_float64, build, gets_slopes, slopes_are_differences, generator
):
    loud = 10.0 ** (torch.randint(0, 2, (40, 1), generator=generator) / 2)
    bands = (torch.randn(40, 512, generator=generator, dtype=torch.float64) * loud).requires_grad_()
    stage, weight = build(m.NeuralTransient), torch.randn(40, 3, generator=generator, dtype=torch.float64)
    gets_slopes(stage, stage(bands), (bands,))
    assert all(w.grad.all() for w in stage.parameters())

    def curve() -> torch.Tensor:
        largest = torch.stack([excess.amax(-1) for excess in stage.excess(bands)], -1)
        soft = torch.sigmoid(largest * stage.steepness.exp())
        return (weight * torch.tensor([2.0, 2.0, 3.0]) * soft).sum()

    slopes_are_differences(list(stage.parameters()), curve, hard=lambda: (weight * stage(bands)).sum())
