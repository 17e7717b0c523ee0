from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from atrac_bitstream.tables import BFU_BANDS, BFU_SIZES, SHORT_SIZE
from atrac_modules import RateDistortionAllocator, ReferenceMdct
from atrac_modules.bfu import BfuLayout
from atrac_modules.importance import Importance, _block_of_bfu
from atrac_modules.psychoacoustics import MaskingModel

SHORT = torch.tensor([2.0, 2.0, 3.0])
MODES = ("long", "short", "mixed")
DECIBEL = 10 * math.log10(2)
"""Importances are log2 of a power."""
FROM_EAR_MODEL = 0.25
"""Largest RMS difference in dB of untrained importances from the ear model's, whose thresholds change within a band.
Measured 0.22."""
ALIKE = 0.01
"""Largest difference between BFUs, in log2, of the effect of 20 dB, 5: what is left of the threshold in quiet at 20 Hz
and at 20 kHz. Measured 0.004."""
ROUNDING = 2e-4
"""Of float32: importances reach 40. Measured 2e-5."""


@pytest.fixture
def spectrum(generator) -> Tensor:
    """Noise of all slopes and levels, every fourth frame with tones [20, 512]."""
    decay = torch.logspace(0, -4, 512) ** torch.rand(20, 1, generator=generator)
    level = 10.0 ** -torch.randint(0, 4, (20, 1), generator=generator)
    spectrum = (torch.randn(20, 512, generator=generator) * decay * level).clamp(-2, 2)
    spectrum[::4, 17::23] = 0.3
    return spectrum


@pytest.fixture
def bsm_of(random_bsm) -> Callable[[str], Tensor]:
    """Return block size modes [20, 3]."""
    return lambda mode: {"long": torch.zeros(20, 3), "short": SHORT.expand(20, 3), "mixed": random_bsm(20)}[mode]


def centred(importance: Tensor) -> Tensor:
    return importance - importance.mean(-1, keepdim=True)


@torch.no_grad()
def draw_weights(stage: Importance, generator: torch.Generator, scale: float = 1.0) -> Importance:
    """Draw the weights of the network's layers, whose sum over any number of inputs is about `scale`."""
    for weight in stage.network.parameters():
        weight.copy_(scale * torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5)
    return stage


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_untrained_importances_are_the_ear_models(mode: str, spectrum, bsm_of):
    bsm = bsm_of(mode)
    model = centred(RateDistortionAllocator().importance(spectrum, bsm))
    difference = DECIBEL * (centred(Importance()(spectrum, bsm)) - model)
    assert difference.square().mean().sqrt() < FROM_EAR_MODEL
    assert (DECIBEL * model).square().mean().sqrt() > 2 * FROM_EAR_MODEL, "or a constant would do"


@torch.no_grad()
def test_untrained_importances_of_a_recording_are_the_ear_models(golden):
    long = torch.zeros_like(golden.bsm)
    spectrum = ReferenceMdct()(golden.qmf, long)
    difference = centred(Importance()(spectrum, long)) - centred(RateDistortionAllocator().importance(spectrum, long))
    assert DECIBEL * difference.square().mean().sqrt() < FROM_EAR_MODEL


@torch.no_grad()
def test_the_correction_is_small_before_training_and_at_most_4(build, spectrum, bsm_of, generator):
    bsm, plain = bsm_of("mixed"), Importance()
    stage = build(Importance, hidden=64)
    assert 0 < (stage(spectrum, bsm) - plain(spectrum, bsm)).abs().max() < 0.1, "0.3 dB"
    correction = draw_weights(stage, generator, scale=20.0)(spectrum, bsm) - plain(spectrum, bsm)
    assert correction.abs().max() <= 4 + ROUNDING
    assert correction.max() > 3.9
    assert correction.min() < -3.9


@torch.no_grad()
def test_the_network_sees_block_modes_power_and_tonality(build, spectrum, bsm_of):
    stage, seen, bsm = build(Importance, hidden=8), [], bsm_of("mixed")
    stage.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    stage(spectrum, bsm)
    power, tonality = MaskingModel().bands(MaskingModel().power(spectrum, bsm))
    expected = torch.cat([(bsm > 0).float(), power.clamp_min(2.0**-42).log2() / 10 + 2, tonality], -1)
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_the_least_importance_is_80_octaves_below_the_largest_and_finite(mode: str, spectrum, bsm_of):
    stage = Importance()
    stage.exponent.fill_(8.0)
    stage.modulation.zero_()
    importance = stage(spectrum, bsm_of(mode))
    assert torch.isfinite(importance).all()
    assert 70 < (importance.amax(-1) - importance.amin(-1)).max() < 80 + ROUNDING


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-10, 4.0])
def test_importances_and_slopes_are_finite_at_every_level(level: float, hidden: int, build, spectrum, bsm_of):
    full = torch.cat([level * spectrum / spectrum.abs().amax(-1, keepdim=True), torch.full((20, 512), level)])
    stage = build(Importance, hidden=hidden)
    importance = stage(full, torch.cat([bsm_of("mixed"), bsm_of("mixed")]))
    assert torch.isfinite(importance).all()
    importance.square().sum().backward()
    assert all(torch.isfinite(w.grad).all() for w in stage.parameters())


@torch.no_grad()
def test_importance_matches_a_loop_over_maskers_bands_and_blocks(in_float64, build, spectrum, bsm_of, generator):
    stage = build(Importance)
    for weight in stage.parameters():
        weight += 0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    spectrum, bsm = spectrum.double(), bsm_of("mixed").double()
    importance, layout, model = stage(spectrum, bsm), BfuLayout(), MaskingModel()
    envelope = model.envelope(spectrum)
    power, tonality = model.bands(model.power(spectrum, bsm))
    spread, tonal = stage.spread[0].tolist(), stage.tonal.tolist()
    for unit in (0, 1, 2, 3):
        short = (layout.bsm_of_bfu(bsm[unit]) > 0).tolist()
        maskers = [float(p) * 2.0 ** (-t * float(x)) for p, t, x in zip(power[unit], tonal, tonality[unit])]
        level = []
        for band, row in enumerate(spread):
            masked = sum(m * 2.0**s for m, s in zip(maskers, row))
            level.append(-float(stage.exponent[band]) * math.log2(masked + 2.0 ** float(stage.quiet[band])))
        for bfu in range(52):
            share = stage.share[int(short[bfu]), bfu].tolist()
            expected = math.log2(sum(s * 2.0**x for s, x in zip(share, level) if s))
            if short[bfu]:
                block = envelope[unit, int(_block_of_bfu()[bfu])]
                expected -= float(stage.modulation[BFU_BANDS[bfu]]) * math.log2(block)
            assert importance[unit, bfu].item() == pytest.approx(expected, abs=1e-9)
    assert {*(bsm[:4] > 0).flatten().tolist()} == {False, True}


@pytest.mark.parametrize("mode", MODES)
def test_every_weight_has_the_slope_of_its_difference(
    mode: str, in_float64, build, spectrum, bsm_of, gets_slopes, slopes_are_differences, generator
):
    stage = draw_weights(build(Importance, hidden=8), generator)
    known = spectrum.double(), bsm_of(mode).double()
    unused = ("modulation",) if mode == "long" else ()
    gets_slopes(stage, stage(*known), spared=unused)
    assert stage.spread.grad.count_nonzero() > 0.9 * stage.spread.numel()
    assert min(stage.quiet.grad.count_nonzero(), stage.exponent.grad.count_nonzero()) >= 55, "in nearly all bands"
    weight = torch.randn(20, 52, generator=generator, dtype=torch.float64)
    weights = [w for name, w in stage.named_parameters() if name not in unused]
    slopes_are_differences(weights, lambda: (weight * stage(*known)).sum())


def test_shares_of_bands_add_up_and_are_worked_out_at_the_ends(in_float64):
    share = Importance().share
    assert share.shape == (2, 52, 60)
    assert (share >= 0).all()
    torch.testing.assert_close(share.sum(-1), torch.ones(2, 52), rtol=0, atol=1e-12)
    # The lowest band ends at 650 sinh(0.5 / 7) = 46.468 Hz, in the second coefficient of 43.066 Hz; BFU 0 has 8 of them
    # in a long block, and 4 x 8 in the place of the first of four short ones.
    assert share[:, 0, 0].tolist() == pytest.approx([46.468 / 43.066 / 8, 46.468 / 43.066 / 32], rel=1e-4)
    assert not share[0, 1:, 0].any()
    # The highest begins at 650 sinh(29.5 / 7) = 21980.09 Hz, 69.91 below the end: 1.623 of 20, or 8 x 20, coefficients.
    assert share[:, 51, 59].tolist() == pytest.approx([69.91 / 43.066 / 20, 69.91 / 43.066 / 160], rel=1e-4)
    assert not share[0, :51, 59].any()


def test_blocks_of_bfus_are_those_of_their_coefficients():
    block = BfuLayout().group(torch.arange(512.0)[None] // SHORT_SIZE, SHORT[None])[0].long()
    for bfu, values in enumerate(block.split(BFU_SIZES.tolist())):
        assert (values == _block_of_bfu()[bfu]).all()
    assert sorted(set(_block_of_bfu().tolist())) == list(range(16))
