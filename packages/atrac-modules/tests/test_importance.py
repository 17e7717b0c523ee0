from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from atrac_bitstream.tables import BFU_BANDS, BFU_OF_VALUE, BFU_SIZES, SHORT_SIZE
from atrac_modules import RateDistortionAllocator, ReferenceMdct, ReferenceScaler
from atrac_modules.bfu import BfuLayout
from atrac_modules.importance import _FURTHEST, Importance, _block_of_bfu
from atrac_modules.loudness import START
from atrac_modules.psychoacoustics import N_BLOCKS, MaskingModel

SHORT = torch.tensor([2.0, 2.0, 3.0])
MODES = ("long", "short", "mixed")
DECIBEL = 10 * math.log10(2)
"""Importances are log2 of a power."""
FROM_EAR_MODEL = {"spectrum": 0.25, "energy": 1.4, "idsf": 2.2}
"""Largest RMS difference in dB of untrained importances from the ear model's, by what tells the maskers. The model's
thresholds change within a band and a BFU, these do not; BFUs are wider than bands; a scale factor stands for the
largest coefficient. Measured 0.22, 1.2 and 1.9."""
IN_THE_NETWORK = {
    "idsf": {"idsf"},
    "energy": {"spectrum"},
    "entropy": {"spectrum", "idsf"},  # how far the spectrum lies above what the scale factors hide
    "loudness": {"loudness"},
    "spectrum": {"spectrum"},
}
"""What moves what the network says where all blocks are long, by the only feature it has."""
ALIKE = 0.01
"""Largest difference between BFUs, in log2, of what 20 dB take away, 5: what is left of the threshold in quiet at 20 Hz
and at 20 kHz. Measured 0.004."""
ROUNDING = 2e-4
"""Of float32: importances reach 40, and those of batches add up in another order. Measured 2e-5."""


@pytest.fixture
def spectrum(generator) -> Tensor:
    """Noise of all slopes and levels, every fourth frame with tones [40, 512]."""
    decay = torch.logspace(0, -4, 512) ** torch.rand(40, 1, generator=generator)
    level = 10.0 ** -torch.randint(0, 4, (40, 1), generator=generator)
    spectrum = (torch.randn(40, 512, generator=generator) * decay * level).clamp(-2, 2)
    spectrum[::4, 17::23] = 0.3
    return spectrum


@pytest.fixture
def bsm_of(random_bsm) -> Callable[[str], Tensor]:
    """Return block size modes [40, 3]."""
    return lambda mode: {"long": torch.zeros(40, 3), "short": SHORT.expand(40, 3), "mixed": random_bsm(40)}[mode]


def sound(spectrum: Tensor, bsm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what importances are told from."""
    return spectrum, ReferenceScaler()(spectrum, bsm), bsm


def centred(importance: Tensor) -> Tensor:
    return importance - importance.mean(-1, keepdim=True)


@pytest.mark.parametrize("feature", FROM_EAR_MODEL)
@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_untrained_importances_are_the_ear_models(mode: str, feature: str, spectrum, bsm_of):
    known = sound(spectrum, bsm_of(mode))
    model = centred(RateDistortionAllocator().importance(spectrum, known[2]))
    difference = DECIBEL * (centred(Importance(hidden=0, features=[feature])(*known)) - model)
    assert difference.square().mean().sqrt() < FROM_EAR_MODEL[feature]
    assert (DECIBEL * model).square().mean().sqrt() > 2 * FROM_EAR_MODEL[feature], "or a constant would do"


@torch.no_grad()
def test_untrained_importances_are_the_ear_models_also_for_a_recording(golden):
    importance = Importance(hidden=0, features=["spectrum"])
    long = torch.zeros_like(golden.bsm)
    known = sound(ReferenceMdct()(golden.qmf, long), long)
    difference = centred(importance(*known)) - centred(RateDistortionAllocator().importance(known[0], long))
    assert DECIBEL * difference.square().mean().sqrt() < FROM_EAR_MODEL["spectrum"]


@torch.no_grad()
def test_an_untrained_network_hardly_counts(build, spectrum, bsm_of):
    stage, known = build(Importance), sound(spectrum, bsm_of("mixed"))
    full = stage(*known)
    stage.network = None
    assert 0 < (full - stage(*known)).abs().max() < 0.1, "0.3 dB"


def draw_weights(stage: Importance, generator: torch.Generator, scale: float = 1.0) -> Importance:
    """Draw the weights of the network's layers, whose sum over any number of inputs is about `scale`."""
    with torch.no_grad():
        for weight in stage.network.parameters():
            weight.copy_(scale * torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5)
    return stage


@pytest.mark.parametrize("feature", IN_THE_NETWORK)
@torch.no_grad()
def test_a_feature_is_what_its_name_says_and_reaches_the_network(
    feature: str, build, spectrum, bsm_of, generator, monkeypatch
):
    stage = draw_weights(build(Importance, features=[feature]), generator)
    said: list[Tensor] = []
    stage.network.register_forward_hook(lambda module, inputs, output: said.append(output))
    known = dict(zip(("spectrum", "idsf", "bsm"), sound(spectrum, bsm_of("long"))))
    known["loudness"] = torch.full((40,), START)
    before = stage(**known)
    turned = known["spectrum"].flip(-1)
    others = {"spectrum": turned, "idsf": known["idsf"] - 3, "loudness": 100 * known["loudness"]}
    for name, other in others.items():
        after = stage(**{**known, name: other})
        if name in IN_THE_NETWORK[feature]:
            assert (said[-1] - said[0]).abs().amax(-1).gt(1e-3).all(), f"{name} moves it in every frame"
            assert (after != before).any()
        else:
            assert torch.equal(said[-1], said[0]), name
    stage(**{**known, "bsm": SHORT.expand(40, 3)})
    assert not torch.equal(said[-1], said[0])


@pytest.mark.parametrize("feature", Importance.FEATURES)
@torch.no_grad()
def test_each_of_all_features_counts(feature: str, build, spectrum, bsm_of, generator):
    stage, known = draw_weights(build(Importance), generator), sound(spectrum, bsm_of("mixed"))
    widths = {"idsf": 52, "energy": 52, "entropy": 52, "loudness": 1, "spectrum": 120}
    assert sum(widths.values()) + 3 == stage.network[0].in_features
    start = 3 + sum(widths[name] for name in Importance.FEATURES[: Importance.FEATURES.index(feature)])
    before = stage(*known)
    stage.network[0].weight[:, start : start + widths[feature]] = 0
    assert (stage(*known) - before).abs().amax(-1).gt(1e-3).all()


@pytest.mark.parametrize("feature", Importance.FEATURES)
@torch.no_grad()
def test_the_network_sees_what_its_features_say(feature: str, in_float64, build, spectrum, bsm_of, generator):
    stage, seen = build(Importance, hidden=8, features=[feature]), []
    stage.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    known = sound(spectrum.double(), bsm_of("mixed").double())
    _, idsf, bsm = known
    loudness = torch.rand(40, generator=generator, dtype=torch.float64)
    stage(*known, loudness)
    stage.network = None
    importance, layout, model = stage(*known, loudness), BfuLayout(), MaskingModel()
    power, tonality = model.bands(model.power(known[0], bsm))
    for unit in range(0, 40, 5):
        groups = layout.group(known[0][unit], bsm[unit]).square().split(BFU_SIZES.tolist())
        n_blocks = torch.exp2(layout.bsm_of_bfu(bsm[unit])).tolist()
        energies = [max(float(group.mean()) / n, 2.0**-42) for group, n in zip(groups, n_blocks)]
        # Over the threshold in bits: 1 / 2 log2(1 + energy x importance ** (1 / exponent)), here times 1 / 4.
        over = [group * 2.0 ** (float(x) / 0.75) / n for group, x, n in zip(groups, importance[unit], n_blocks)]
        expected = {
            "idsf": idsf[unit] / 32 - 1,
            "energy": [math.log2(energy) / 10 + 2 for energy in energies],
            "entropy": [float((1 + x).log2().mean()) / 8 for x in over],
            "loudness": [math.log2(loudness[unit]) / 10],
            "spectrum": [*(power[unit].clamp_min(2.0**-42).log2() / 10 + 2), *tonality[unit]],
        }[feature]
        expected = [*(bsm[unit] > 0).double().tolist(), *(float(x) for x in expected)]
        assert seen[0][unit].tolist() == pytest.approx(expected, abs=1e-9)


@torch.no_grad()
def test_the_least_important_is_80_octaves_below_the_most_and_finite(spectrum, bsm_of):
    for mode in MODES:
        stage = Importance(hidden=0, features=["spectrum"])
        stage.exponent.fill_(8.0)
        stage.modulation.zero_()
        importance = stage(*sound(spectrum, bsm_of(mode)))
        assert torch.isfinite(importance).all()
        span = importance.amax(-1) - importance.amin(-1)
        assert 70 < span.max() < 80 + ROUNDING


@torch.no_grad()
def test_without_a_loudness_it_is_that_of_the_start(build, spectrum, bsm_of, generator):
    stage, known = draw_weights(build(Importance), generator), sound(spectrum, bsm_of("mixed"))
    assert torch.equal(stage(*known), stage(*known, torch.full((40,), START)))
    assert not torch.equal(stage(*known), stage(*known, torch.full((40,), 2 * START)))


@pytest.mark.parametrize("hidden", [0, 8])
def test_unknown_features_are_refused(hidden: int):
    with pytest.raises(ValueError, match=r"features: idsv, tone, allowed idsf, energy, entropy, loudness, spectrum$"):
        Importance(hidden, ["idsf", "idsv", "tone"])


@torch.no_grad()
def test_a_network_adds_at_most_4_either_way_and_nearly_that(build, spectrum, bsm_of, generator):
    stage, known = draw_weights(build(Importance), generator, scale=20.0), sound(spectrum, bsm_of("mixed"))
    full = stage(*known)
    stage.network = None
    added = full - stage(*known)
    assert _FURTHEST == 4
    assert added.abs().max() <= 4 + ROUNDING
    assert added.max() > 3.9
    assert added.min() < -3.9


@pytest.mark.parametrize("feature", FROM_EAR_MODEL)
@pytest.mark.parametrize("mode", ["long", "short"])
@torch.no_grad()
def test_20_db_more_of_a_loud_sound_change_all_importances_alike(mode: str, feature: str, bsm_of, generator):
    stage = Importance(hidden=0, features=[feature])
    spectrum, idsf = 10 * torch.randn(40, 512, generator=generator), torch.full((40, 52), 70.0)
    # Beyond what the format holds, so that the threshold in quiet is far off everywhere.
    change = stage(10 * spectrum, idsf + 3 * math.log2(10), bsm_of(mode)) - stage(spectrum, idsf, bsm_of(mode))
    assert centred(change).abs().max() < ALIKE
    taken = -0.75 * 2 * math.log2(10)
    assert change.mean() == pytest.approx(taken, abs=ALIKE)


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-10, 4.0])
def test_importances_and_slopes_are_finite_whatever_the_level(
    level: float, mode: str, hidden: int, build, spectrum, bsm_of
):
    full = torch.cat([level * spectrum / spectrum.abs().amax(-1, keepdim=True), torch.full((1, 512), level)])
    bsm = torch.cat([bsm_of(mode), bsm_of(mode)[:1]])
    for loudness in (None, torch.zeros(41), torch.full((41,), 1e6)):
        stage = build(Importance, hidden=hidden)
        importance = stage(*sound(full, bsm), loudness)
        assert importance.shape == (41, 52)
        assert torch.isfinite(importance).all()
        importance.square().sum().backward()
        assert all(w.grad is None or torch.isfinite(w.grad).all() for w in stage.parameters())


@torch.no_grad()
def test_in_silence_importance_is_that_of_the_threshold_in_quiet():
    silence = torch.zeros(1, 512)
    importance = Importance(hidden=0, features=["energy"])(silence, torch.zeros(1, 52), torch.zeros(1, 3))
    assert importance.argmax() == BFU_OF_VALUE[76], "3.3 kHz, where hearing is best"
    quiet = MaskingModel()(silence, torch.zeros(1, 3)).log2()
    # BFUs there are narrower than the bands whose number they are told from.
    assert importance[0, BFU_OF_VALUE[76]].item() == pytest.approx(-0.75 * quiet[0, 76].item(), abs=0.1)


@torch.no_grad()
def test_a_sound_unit_alone_is_what_it_is_in_a_batch(build, spectrum, bsm_of, generator):
    stage, known = draw_weights(build(Importance), generator), sound(spectrum, bsm_of("mixed"))
    loudness = torch.rand(40, generator=generator)
    together = stage(*known, loudness)
    for unit in range(40):
        alone = stage(*(x[unit : unit + 1] for x in (*known, loudness)))
        torch.testing.assert_close(alone[0], together[unit], rtol=0, atol=ROUNDING)
    folded = stage(*(x.unflatten(0, (2, 20)) for x in (*known, loudness)))
    torch.testing.assert_close(folded.flatten(0, 1), together, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("feature", ["energy", "idsf"])
@torch.no_grad()
def test_importance_matches_a_loop_over_maskers_bands_and_blocks(
    feature: str, in_float64, build, spectrum, bsm_of, generator
):
    stage = build(Importance, hidden=0, features=[feature])
    for weight in stage.parameters():
        weight += 0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    spectrum, bsm = spectrum.double(), bsm_of("mixed").double()
    idsf = ReferenceScaler()(spectrum, bsm)
    importance, layout = stage(spectrum, idsf, bsm), BfuLayout()
    envelope = MaskingModel().envelope(spectrum)
    seen = set()
    for unit in (0, 1, 2, 3):
        short = (layout.bsm_of_bfu(bsm[unit]) > 0).tolist()
        seen |= set(short)
        groups = layout.group(spectrum[unit], bsm[unit]).split(BFU_SIZES.tolist())
        maskers = [float(group.square().sum()) for group in groups]
        if feature == "idsf":
            maskers = [2.0 ** (2 * (float(i) / 3 - 22 + 1)) / 4 * size for i, size in zip(idsf[unit], BFU_SIZES)]
        n_blocks = [N_BLOCKS[BFU_BANDS[bfu]] if short[bfu] else 1 for bfu in range(52)]
        level = []
        for band in range(stage.share.shape[-1]):
            spread = [float(stage.spread[int(short[bfu]), band, bfu]) for bfu in range(52)]
            masked = sum(m * 2.0**s / n for m, s, n in zip(maskers, spread, n_blocks))
            level.append(-float(stage.exponent[band]) * math.log2(masked + 2.0 ** float(stage.quiet[band])))
        for bfu in range(52):
            share = stage.share[int(short[bfu]), bfu].tolist()
            expected = math.log2(sum(s * 2.0**x for s, x in zip(share, level) if s))
            if short[bfu]:
                block = envelope[unit, int(_block_of_bfu()[bfu])]
                expected -= float(stage.modulation[BFU_BANDS[bfu]]) * math.log2(block)
            assert importance[unit, bfu].item() == pytest.approx(expected, abs=1e-9)
    assert seen == {False, True}


@torch.no_grad()
def test_only_bands_with_short_blocks_follow_their_blocks(generator):
    # The second block of four, or eight, of each band is loud.
    spectrum = 1e-2 * torch.randn(1, 512, generator=generator)
    for first in (32, 160, 288):
        spectrum[:, first : first + 32] *= 100
    stage, idsf = Importance(hidden=0, features=["idsf"]), torch.full((1, 52), 50.0)
    band, block = torch.from_numpy(BFU_BANDS), torch.from_numpy(_block_of_bfu())
    block = block - torch.tensor([0, *N_BLOCKS]).cumsum(0)[band]
    long, all_short, one_short = (
        stage(spectrum, idsf, torch.tensor([bsm]))[0] for bsm in ((0.0, 0.0, 0.0), (2.0, 2.0, 3.0), (0.0, 2.0, 0.0))
    )
    for own in range(3):
        change = [(all_short - long)[(band == own) & (block == k)] for k in range(N_BLOCKS[own])]
        assert change[0].min() > change[1].max() + 4, "40 dB are 13.3 in log2, of which 0.5 x 0.75 counts: 5"
        assert all(change[1].max() < later.min() for later in change[2:]), "less and less is hidden by it"
    # In other bands only the maskers next to it differ, which are those of short blocks.
    assert (one_short - long)[band != 1].abs().max() < 1
    assert (one_short - long)[(band == 1) & (block == 0)].min() > 4


@pytest.mark.parametrize("features", [Importance.FEATURES, ["spectrum"]], ids=len)
@pytest.mark.parametrize("mode", MODES)
def test_every_weight_gets_a_slope(mode: str, features: list[str], build, spectrum, bsm_of, gets_slopes):
    stage = build(Importance, features=features)
    spared = ("modulation",) if mode == "long" else ()
    gets_slopes(stage, stage(*sound(spectrum, bsm_of(mode))), spared=spared)
    assert stage.spread.grad.count_nonzero() > 0.9 * stage.spread.numel()
    for name in ("quiet", "tonal", "exponent"):  # in all bands, but for a few that never have a tone
        assert getattr(stage, name).grad.count_nonzero() >= 55, name


@pytest.mark.parametrize("mode", MODES)
def test_maskers_that_are_bfus_get_slopes_by_the_length_of_their_blocks(mode: str, build, spectrum, bsm_of):
    stage = build(Importance, features=["energy", "entropy", "loudness"])
    stage(*sound(spectrum, bsm_of(mode))).square().sum().backward()
    slopes = [slope.count_nonzero() / slope.numel() for slope in stage.spread.grad]
    assert (slopes[0] > 0.9) == (mode != "short")
    assert (slopes[1] > 0.9) == (mode != "long")
    assert mode == "mixed" or min(slopes) == 0


@pytest.mark.parametrize("features", [Importance.FEATURES, ["energy", "entropy"]], ids=len)
@pytest.mark.parametrize("mode", MODES)
def test_slope_of_the_importance_is_its_difference(
    mode: str, features: list[str], in_float64, build, spectrum, bsm_of, slopes_are_differences, generator
):
    stage = draw_weights(build(Importance, hidden=8, features=features), generator)
    known = sound(spectrum.double(), bsm_of(mode).double())
    weight = torch.randn(40, 52, generator=generator, dtype=torch.float64)
    unused = set() if mode != "long" else {"modulation"}
    unused |= set() if "spectrum" in features else {"tonal"}
    weights = [w for name, w in stage.named_parameters() if name not in unused]
    slopes_are_differences(weights, lambda: (weight * stage(*known)).sum())


@torch.no_grad()
def test_the_state_is_the_parameters_and_takes_the_output_along(build, spectrum, bsm_of, generator):
    stage, other = (build(Importance, seed, hidden=8) for seed in (1, 2))
    known = sound(spectrum, bsm_of("mixed"))
    for weight in stage.parameters():
        weight += 0.1 * torch.randn(weight.shape, generator=generator)
    assert set(stage.state_dict()) == {name for name, _ in stage.named_parameters()}
    assert {"spread", "quiet", "tonal", "exponent", "modulation"} < set(stage.state_dict())
    assert not torch.equal(other(*known), stage(*known))
    other.load_state_dict(stage.state_dict())
    assert torch.equal(other(*known), stage(*known))


def test_shares_of_bands_add_up_and_are_worked_out_at_the_ends(in_float64):
    share = Importance(hidden=0).share
    assert share.shape == (2, 52, 60)
    assert (share >= 0).all()
    torch.testing.assert_close(share.sum(-1), torch.ones(2, 52), rtol=0, atol=1e-12)
    # The lowest band ends at 650 sinh(0.5 / 7) = 46.468 Hz, in the second coefficient of 43.066 Hz; BFU 0 has 8 of them
    # in a long block, and 4 x 8 in the place of the first of four short ones.
    assert share[0, 0, 0].item() == pytest.approx(46.468 / 43.066 / 8, rel=1e-4)
    assert share[1, 0, 0].item() == pytest.approx(46.468 / 43.066 / 32, rel=1e-4)
    assert not share[0, 1:, 0].any()
    # The highest begins at 650 sinh(29.5 / 7) = 21980.09 Hz, 69.91 below the end: 1.623 of 20, or 8 x 20, coefficients.
    assert share[0, 51, 59].item() == pytest.approx(69.91 / 43.066 / 20, rel=1e-4)
    assert share[1, 51, 59].item() == pytest.approx(69.91 / 43.066 / 160, rel=1e-4)
    assert not share[0, :51, 59].any()


def test_blocks_of_bfus_are_those_of_their_coefficients():
    layout = BfuLayout()
    block = layout.group(torch.arange(512.0)[None] // SHORT_SIZE, SHORT[None])[0].long()
    for bfu, values in enumerate(block.split(BFU_SIZES.tolist())):
        assert (values == _block_of_bfu()[bfu]).all()
    assert sorted(set(_block_of_bfu().tolist())) == list(range(16))
