from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import atrac_modules as m
from atrac_bitstream import pack_units
from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout, carries
from atrac_modules.distortion import Prepared, measure, prepare
from atrac_modules.rate_distortion import allocate_by_importance, minimise_lagrangian, search

OFFSETS = range(-3, 4)
"""Changes of a scale factor that the slow search tries: more than the fast one."""
MEAN_LOSS, WORST_LOSS = 0.1, 0.5
"""dB of weighted error over the least there is. Measured 0.03 and 0.14 once the number of BFUs is the best: the loss is
that of one step of the last bits, and of scale factors that are not tried."""
SAME_ERROR = 1e-9
"""Relative, in float64; sums of at most 20 squares."""
SAME_COST = 1.0001
"""Ratio of the weighted errors of two searches whose sums round in another order."""
SAME_CHOICE = 0.1
"""dB of weighted error by which equally good choices may differ after another rounding of the multiplier."""
SAME_TIES = 1.0
"""dB likewise, where many BFUs are exactly alike."""


def units(spectrum: Tensor, bsm: Tensor, exponent: float = 0.75) -> SimpleNamespace:
    """Bring together the inputs of a search [N, …]: weight [N, 52] is that of a squared error in each BFU."""
    weight = BfuLayout().mean(m.MaskingModel()(spectrum, bsm) ** -exponent, bsm)
    return SimpleNamespace(spectrum=spectrum, idsf=m.ReferenceScaler()(spectrum, bsm), bsm=bsm, weight=weight)


@pytest.fixture
def sloping(generator, random_bsm) -> SimpleNamespace:
    """Noise of all slopes and levels, some of it over full scale [36]."""
    decay = torch.logspace(0, -4, 512) ** torch.rand(36, 1, generator=generator)
    level = 10.0 ** -torch.randint(0, 5, (36, 1), generator=generator)
    return units((torch.randn(36, 512, generator=generator) * decay * level).clamp(-2, 2), random_bsm(36))


@pytest.fixture
def flat(generator) -> SimpleNamespace:
    """White noise [16]."""
    return units(0.1 * torch.randn(16, 512, generator=generator), torch.zeros(16, 3))


def reweighted(case: SimpleNamespace, weight: Tensor) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(case), "weight": weight})


def in_doubles(case: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(**{name: x.double() for name, x in vars(case).items()})


def ready(case: SimpleNamespace) -> Prepared:
    return prepare(case.spectrum, case.idsf, case.bsm, case.weight, BfuLayout())


@pytest.fixture(params=["kernel", "torch"])
def find(request) -> Callable[[SimpleNamespace], SimpleNamespace]:
    """The search on the CPU, and the one on any device; the result has the dimensions of stages [N, …]."""

    def by_torch(case: SimpleNamespace) -> SimpleNamespace:
        found = search(ready(case))
        dtype = case.spectrum.dtype
        return SimpleNamespace(n_bfu=found.n_bfu, idwl=found.idwl.T.to(dtype), offset=found.offset.T.to(dtype))

    def by_kernel(case: SimpleNamespace) -> SimpleNamespace:
        found = allocate_by_importance(case.spectrum, case.idsf, case.bsm, case.weight.log2())
        return SimpleNamespace(**dict(zip(("n_bfu", "idwl", "offset"), found, strict=True)))

    return by_torch if request.param == "torch" else by_kernel


def distortion(case: SimpleNamespace, idwl: Tensor, offset: Tensor) -> Tensor:
    """Quantize and decode with the reference stages; return the weighted error of each BFU [N, 52]."""
    idsf, layout = case.idsf + offset, BfuLayout()
    quantized = m.ReferenceQuantizer()(case.spectrum, idsf, idwl, case.bsm)
    error = m.ReferenceDequantizer()(quantized, idsf, idwl, case.bsm) - case.spectrum
    return layout.sum(error.square(), case.bsm) * case.weight * torch.exp2(-layout.bsm_of_bfu(case.bsm))


def distortions_of_all(case: SimpleNamespace) -> np.ndarray:
    """Return the least distortion of every word length over all changes of the scale factor [N, 52, 16]."""
    least = []
    for idwl in range(16):
        moved = [(case.idsf + offset).clamp(0, t.IDSF_MAX) - case.idsf for offset in OFFSETS]
        tried = [distortion(case, torch.full_like(case.idsf, idwl), offset) for offset in moved]
        least.append(torch.stack(tried).amin(0))
    return torch.stack(least, -1).double().numpy()


def slow_search(distortion: np.ndarray) -> dict[int, float]:
    """Return the least distortion [52, 16] that fits, for each number of BFUs: a knapsack filled bit by bit."""
    most = t.value_bits(0)
    least = np.zeros(most + 1)  # by bits that may be used
    found = {}
    for bfu in range(t.N_BFU_MAX):
        with_it = np.full(most + 1, np.inf)
        for idwl, word in enumerate(t.WORD_LENGTHS):
            bits = int(word * t.BFU_SIZES[bfu])
            with_it[bits:] = np.minimum(with_it[bits:], least[: most + 1 - bits] + distortion[bfu, idwl])
        least = with_it
        if bfu + 1 in t.BFU_AMOUNTS:
            found[bfu + 1] = float(least[t.value_bits(bfu + 1)] + distortion[bfu + 1 :, 0].sum())
    return found


def check_legal(case: SimpleNamespace, found: SimpleNamespace) -> None:
    """Pack the result, and expect that it fits and that everything is in its range."""
    idsf = case.idsf + found.offset
    assert torch.isfinite(found.idwl).all()
    assert torch.equal(idsf, idsf.clamp(0, t.IDSF_MAX))
    assert not (found.idwl * ~carries(found.n_bfu)).any()
    assert not (found.offset * (found.idwl == 0)).any()
    assert (m.used_value_bits(found.idwl) <= m.value_bits(found.n_bfu)).all()
    quantized = m.ReferenceQuantizer()(case.spectrum, idsf, found.idwl, case.bsm)
    fields = (case.bsm, found.n_bfu, found.idwl, idsf * carries(found.n_bfu), quantized)
    packed = pack_units(*(field.int().numpy() for field in fields))  # refuses values out of range
    assert not packed[:, -(t.MIRROR_BITS + t.UNUSED_BITS) // 8 :].any()


@pytest.mark.parametrize("name", ["sloping", "flat"])
def test_search_is_legal_and_close_to_the_best_of_a_slow_one(name: str, find, request):
    case = request.getfixturevalue(name)
    found = find(case)
    check_legal(case, found)
    assert found.idwl.any(-1).all()
    got = distortion(case, found.idwl, found.offset).double().sum(-1).numpy()
    best = [slow_search(one) for one in distortions_of_all(case)]
    same_number = [b[int(n)] for b, n in zip(best, found.n_bfu, strict=True)]
    any_number = [min(b.values()) for b in best]
    assert (10 * np.log10(got / same_number)).min() > -1e-3, "better than the best"
    for least in (same_number, any_number):
        loss = 10 * np.log10(got / least)
        assert loss.mean() < MEAN_LOSS
        assert loss.max() < WORST_LOSS


def test_slow_search_is_right_where_the_answer_is_known():
    # One BFU that matters: the longest word, in as few BFUs as there may be; then several that share the bits.
    cost = np.zeros((52, 16))
    cost[3] = 2.0 ** -np.arange(16)
    assert slow_search(cost)[20] == 2.0**-15
    cost[44:] = 1 + cost[3]
    assert slow_search(cost)[44] == 16 + 2.0**-15
    # In 1136 bits the 8 values of BFU 3 and six BFUs of 20 values have 7 bits each, the last two of those 6.
    assert slow_search(cost)[52] == 8 + 7 * 2.0**-6 + 2 * 2.0**-5


def test_measured_distortions_are_those_of_the_reference_stages(in_float64, sloping):
    case = in_doubles(sloping)
    candidates = measure(ready(case))
    for idwl in range(t.IDWL_MAX + 1):
        found, offset = candidates.distortion[idwl].T, candidates.offset[idwl].T
        impossible = found.isinf()  # no lower scale factor to clip with
        assert (case.idsf[impossible] == 0).all()
        assert idwl == 1 or not impossible.any()
        expected = distortion(case, torch.full_like(case.idsf, idwl), offset).masked_fill(impossible, torch.inf)
        torch.testing.assert_close(found, expected, rtol=SAME_ERROR, atol=0)
        moved = case.idsf + offset
        assert torch.equal(moved.clamp(0, t.IDSF_MAX), moved)


def test_the_lagrangian_is_minimal_and_a_larger_multiplier_takes_no_more_bits(flat):
    candidates = measure(ready(flat)).distortion
    rates = torch.as_tensor(t.WORD_LENGTHS[:, None] * t.BFU_SIZES)[..., None].float()
    before = torch.full((52, 16), torch.inf)
    for level in range(-16, 4, 2):
        lam = torch.full((16,), 2.0**level)
        least, rate = minimise_lagrangian(candidates, lam)
        totals = candidates + rates * lam
        torch.testing.assert_close(least, totals.amin(0), rtol=1e-6, atol=0)
        chosen = totals.gather(0, (rates == rate).int().argmax(0, keepdim=True))[0]
        torch.testing.assert_close(chosen, least, rtol=1e-6, atol=0)
        assert (rate <= before).all()
        before = rate
    assert not before.any(), "nothing is worth the largest multiplier"


@torch.no_grad()
@given(seed=st.integers(0, 2**32 - 1), level=st.floats(-40, 2), slope=st.floats(0, 6), share=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_kernel_and_torch_leave_the_same_error_in_any_spectrum(seed: int, level: float, slope: float, share: float):
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.randn(8, 512, generator=generator) * torch.logspace(0, -slope, 512) * 2.0**level
    spectrum *= torch.rand(8, 512, generator=generator) <= share
    modes = torch.tensor(t.BSM_SHORT, dtype=torch.float32)
    case = units(spectrum, modes * torch.randint(0, 2, (8, 3), generator=generator))
    found = allocate_by_importance(case.spectrum, case.idsf, case.bsm, case.weight.log2())
    kernel = SimpleNamespace(**dict(zip(("n_bfu", "idwl", "offset"), found, strict=True)))
    check_legal(case, kernel)
    slow = search(ready(case))
    one, other = (distortion(case, idwl, offset).double().sum(-1) for idwl, offset in
                  ((kernel.idwl, kernel.offset), (slow.idwl.T.float(), slow.offset.T.float())))  # fmt: skip
    assert (one <= other * SAME_COST).all()


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**60])
def test_only_ratios_of_weights_count(factor: float, find, sloping):
    found, scaled = find(sloping), find(reweighted(sloping, factor * sloping.weight))
    check_legal(sloping, scaled)
    one, other = (distortion(sloping, f.idwl, f.offset).sum(-1) for f in (found, scaled))
    assert (10 * (other / one).log10()).abs().max() < SAME_CHOICE


def test_bfus_of_tiny_weight_have_hardly_a_bit_and_those_of_huge_weight_the_most(find, flat):
    factors = torch.ones(52)
    factors[4], factors[11] = 2.0**-40, 2.0**40
    before, after = find(flat), find(reweighted(flat, flat.weight * factors))
    assert before.idwl[:, 4].all(), "or this says nothing"
    assert (after.idwl[:, 4] > 0).float().mean() < 0.2, "bits that nothing else could use"
    assert (after.idwl[:, 11] == after.idwl.amax(-1)).all()
    assert (after.idwl[:, 11] > before.idwl[:, 11] + 4).all()


ODD = {
    "silence": torch.zeros(512),
    "one coefficient": torch.zeros(512).index_fill(0, torch.tensor(41), 0.7),
    "one of the highest": torch.zeros(512).index_fill(0, torch.tensor(511), -1e-3),
    "over full scale": torch.ones(512) * 1.7 * (-1.0) ** torch.arange(512),
    "a square wave's": torch.zeros(512).index_copy(0, torch.arange(20, 512, 40), 30 / torch.arange(20.0, 512, 40)),
    "denormal": torch.full((512,), 1e-40),
    "below the smallest scale factor": torch.full((512,), 1e-9),
    "all alike": torch.full((512,), 0.01),
    "huge": torch.full((512,), 1e4),
}


@pytest.mark.parametrize("exponent", [0.0, 0.75])
def test_odd_spectra_are_searched_legally_alone_and_together(exponent: float, find):
    spectrum = torch.stack(list(ODD.values())).repeat_interleave(2, 0)
    bsm = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 3.0]]).repeat(len(ODD), 1)
    case = units(spectrum, bsm, exponent)
    together = find(case)
    check_legal(case, together)
    left = distortion(case, together.idwl, together.offset).sum(-1)
    assert torch.isfinite(left).all()
    for k in range(len(spectrum)):
        one = SimpleNamespace(**{name: x[k : k + 1] for name, x in vars(case).items()})
        alone = find(one)
        check_legal(one, alone)
        # Where BFUs are alike, the last place of a sum decides which of them come first, and how many of them.
        other = float(distortion(one, alone.idwl, alone.offset).sum())
        assert other == pytest.approx(float(left[k]), rel=10 ** (SAME_TIES / 10) - 1)
    n_bits = dict(zip(ODD, m.used_value_bits(together.idwl)[::2].tolist()))
    assert n_bits["silence"] == 0
    assert together.idwl[2].nonzero()[:, 0].tolist() == [int(t.BFU_OF_VALUE[41])], "bits only where something is"
    assert together.n_bfu[[2, 4]].tolist() == [20, 52]
    assert n_bits["all alike"] > 1000
