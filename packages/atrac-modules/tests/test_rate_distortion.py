from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from atrac_bitstream import pack_units
from atrac_bitstream import tables as t
from atrac_modules import (
    MaskingModel,
    RateDistortionAllocator,
    ReferenceDequantizer,
    ReferenceQuantizer,
    ReferenceScaler,
    used_value_bits,
    value_bits,
)
from atrac_modules.bfu import BfuLayout
from atrac_modules.rate_distortion import EFFORTS, Prepared, cheapest, choose, estimate, measure, prepare, search
from atrac_modules.water_filling import carries

MOVES = range(-3, 4)
"""Steps of a scale factor that the slow search tries: more than the fast one."""
REACH = (2, 2)
"""Word lengths below and above those of the formula that the search measures here."""
MEAN_LOSS, WORST_LOSS = 0.1, 0.5
"""dB of weighted error over the best there is. Measured 0.03 and 0.14 once the number of BFUs is the best: what is lost
is one step of the last bits, and scale factors that are not tried."""
SAME_COST = 1e-9
"""Relative, in float64; costs are sums of at most 20 squares."""
SAME_CHOICE = 0.1
"""dB of weighted error by which equal choices may differ that another rounding of the price led to."""
SAME_TIES = 1.0
"""dB likewise, where many BFUs are exactly alike."""


def units(spectrum: Tensor, bsm: Tensor, exponent: float = 0.75) -> SimpleNamespace:
    """Bring together what a search needs [N, …]: weight [N, 52] is what a squared error costs in each BFU."""
    weight = BfuLayout().sum(MaskingModel()(spectrum, bsm) ** -exponent, bsm) / torch.from_numpy(t.BFU_SIZES)
    return SimpleNamespace(spectrum=spectrum, idsf=ReferenceScaler()(spectrum, bsm), bsm=bsm, weight=weight)


@pytest.fixture
def sloping(generator, random_bsm) -> SimpleNamespace:
    """Noise of all slopes and levels, some of it over full scale [36]."""
    decay = torch.logspace(0, -4, 512) ** torch.rand(36, 1, generator=generator)
    level = 10.0 ** -torch.randint(0, 5, (36, 1), generator=generator)
    return units((torch.randn(36, 512, generator=generator) * decay * level).clamp(-2, 2), random_bsm(36))


@pytest.fixture
def flat(generator) -> SimpleNamespace:
    """White noise [24]."""
    return units(0.1 * torch.randn(24, 512, generator=generator), torch.zeros(24, 3))


def changed(case: SimpleNamespace, **fields: Tensor) -> SimpleNamespace:
    """Return sound units with other weights, say."""
    return SimpleNamespace(**{**vars(case), **fields})


def in_doubles(case: SimpleNamespace) -> SimpleNamespace:
    """Return sound units as float64."""
    return SimpleNamespace(**{name: x.double() for name, x in vars(case).items()})


def ready(case: SimpleNamespace) -> Prepared:
    """Scale for the search."""
    return prepare(case.spectrum, case.idsf, case.bsm, case.weight, BfuLayout())


def find(case: SimpleNamespace) -> SimpleNamespace:
    """Search, and return what was found in the way of stages [N, …]."""
    found = search(ready(case), REACH)
    dtype = case.spectrum.dtype
    return SimpleNamespace(n_bfu=found.n_bfu, idwl=found.idwl.T.to(dtype), offset=found.offset.T.to(dtype))


def costs(case: SimpleNamespace, idwl: Tensor, offset: Tensor) -> Tensor:
    """Quantize and decode with the reference stages; return the weighted error of each BFU [N, 52]."""
    idsf, layout = case.idsf + offset, BfuLayout()
    quantized = ReferenceQuantizer()(case.spectrum, idsf, idwl, case.bsm)
    error = ReferenceDequantizer()(quantized, idsf, idwl, case.bsm) - case.spectrum
    return layout.sum(error.square(), case.bsm) * case.weight * torch.exp2(-layout.bsm_of_bfu(case.bsm))


def costs_of_all(case: SimpleNamespace) -> np.ndarray:
    """Return the least cost of every word length over all moves of the scale factor [N, 52, 16]."""
    least = []
    for idwl in range(16):
        moved = [(case.idsf + move).clamp(0, t.IDSF_MAX) - case.idsf for move in MOVES]
        tried = [costs(case, torch.full_like(case.idsf, idwl), offset) for offset in moved]
        least.append(torch.stack(tried).amin(0))
    return torch.stack(least, -1).double().numpy()


def slow_search(cost: np.ndarray) -> dict[int, float]:
    """Return the least cost [52, 16] that can be had, for each number of BFUs: a knapsack filled bit by bit."""
    most = t.value_bits(0)
    least = np.zeros(most + 1)  # by bits that may be used
    found = {}
    for bfu in range(t.N_BFU_MAX):
        with_it = np.full(most + 1, np.inf)
        for idwl, word in enumerate(t.WORD_LENGTHS):
            bits = int(word * t.BFU_SIZES[bfu])
            with_it[bits:] = np.minimum(with_it[bits:], least[: most + 1 - bits] + cost[bfu, idwl])
        least = with_it
        if bfu + 1 in t.BFU_AMOUNTS:
            found[bfu + 1] = float(least[t.value_bits(bfu + 1)] + cost[bfu + 1 :, 0].sum())
    return found


def losses(case: SimpleNamespace, own_amount: bool) -> np.ndarray:
    """Return by how many dB the search misses the best there is [N], or the best with its number of BFUs."""
    found = find(case)
    got = costs(case, found.idwl, found.offset).double().sum(-1).tolist()
    best = [slow_search(cost) for cost in costs_of_all(case)]
    least = [b[int(n)] if own_amount else min(b.values()) for b, n in zip(best, found.n_bfu, strict=True)]
    return 10 * np.log10(np.array(got) / least)


def check_legal(case: SimpleNamespace, found: SimpleNamespace) -> None:
    """Pack what was found, and expect the budget kept and everything in its range."""
    idsf = case.idsf + found.offset
    assert torch.isfinite(found.idwl).all()
    assert idsf.min() >= 0
    assert idsf.max() <= t.IDSF_MAX
    assert not (found.idwl * ~carries(found.n_bfu)).any()
    assert not (found.offset * (found.idwl == 0)).any()
    assert (used_value_bits(found.idwl) <= value_bits(found.n_bfu)).all()
    quantized = ReferenceQuantizer()(case.spectrum, idsf, found.idwl, case.bsm)
    fields = (case.bsm, found.n_bfu, found.idwl, idsf * carries(found.n_bfu), quantized)
    packed = pack_units(*(field.int().numpy() for field in fields))  # refuses what is out of range
    assert not packed[:, -(t.MIRROR_BITS + t.UNUSED_BITS) // 8 :].any()


@pytest.mark.parametrize("name", ["sloping", "flat"])
def test_search_stays_within_budget_and_legal(name: str, request):
    case = request.getfixturevalue(name)
    found = find(case)
    check_legal(case, found)
    assert found.idwl.any(-1).all()


@pytest.mark.parametrize("name", ["sloping", "flat"])
def test_search_finds_next_to_the_best_for_its_number_of_bfus(name: str, request):
    loss = losses(request.getfixturevalue(name), own_amount=True)
    assert loss.min() > -1e-3, "better than the best"
    assert loss.mean() < MEAN_LOSS
    assert loss.max() < WORST_LOSS


@pytest.mark.parametrize("name", ["sloping", "flat"])
def test_search_finds_next_to_the_best_of_all(name: str, request):
    loss = losses(request.getfixturevalue(name), own_amount=False)
    assert loss.mean() < MEAN_LOSS
    assert loss.max() < WORST_LOSS


def test_slow_search_is_right_where_the_answer_is_known():
    # One BFU that matters: the longest word, in as few BFUs as there may be; two that share what there is.
    cost = np.zeros((52, 16))
    cost[3] = 2.0 ** -np.arange(16)
    assert slow_search(cost)[20] == 2.0**-15
    cost[44:] = 1 + cost[3]
    assert slow_search(cost)[44] == 16 + 2.0**-15
    # In 1136 bits the 8 values of BFU 3 and six BFUs of 20 values have 7 bits each, the last two of those 6.
    assert slow_search(cost)[52] == 8 + 7 * 2.0**-6 + 2 * 2.0**-5


def test_measured_costs_are_those_of_the_reference_stages(in_float64, sloping):
    case = in_doubles(sloping)
    scaled = ready(case)
    for around in (2, 7, 14):
        choices = measure(scaled, torch.full((52, 36), around), (1, 1))
        for cost, idwl, offset in zip(choices.cost[:-1], choices.idwl, choices.offset):  # the last one is not measured
            impossible = cost.T.isinf()  # no lower scale factor to clip with
            assert (case.idsf[impossible] == 0).all()
            assert (idwl.T[impossible] == 1).all()
            expected = costs(case, idwl.T.double(), offset.T.double()).masked_fill(impossible, torch.inf)
            torch.testing.assert_close(cost.T, expected, rtol=SAME_COST, atol=0)
            moved = case.idsf + offset.T
            assert torch.equal(moved.clamp(0, t.IDSF_MAX), moved)
        assert choices.idwl.amax((1, 2)).tolist() == choices.idwl.amin((1, 2)).tolist()
        first = min(around - 1, t.IDWL_MAX - 3)
        assert choices.idwl[:, 0, 0].tolist() == [0, *range(first, first + 4)]


def test_measured_scale_factors_beat_the_smallest_that_covers(in_float64, sloping):
    case = in_doubles(sloping)
    scaled = ready(case)
    choices = measure(scaled, torch.full((52, 36), 2), (1, 1))
    stayed = costs(case, torch.full_like(case.idsf, 2), torch.zeros_like(case.idsf))
    moved = choices.cost[2].T
    assert (moved <= stayed * (1 + SAME_COST)).all()
    assert (moved < 0.9 * stayed).float().mean() > 0.2


def test_cheapest_matches_a_loop_and_a_higher_price_takes_no_more_bits(flat):
    choices = measure(ready(flat), torch.full((52, 24), 3), (2, 2))
    before = torch.full((52, 24), torch.inf)
    for level in range(-16, 4, 2):
        price = torch.full((24,), 2.0**level)
        best, bits = cheapest(choices, price)
        for bfu in range(0, 52, 7):
            totals = [float(c + b * price[5]) for c, b in zip(choices.cost[:, bfu, 5], choices.bits[:, bfu, 5])]
            assert float(best[bfu, 5]) == pytest.approx(min(totals), rel=1e-6)
            candidate = choices.bits[:, bfu, 5].tolist().index(float(bits[bfu, 5]))
            assert totals[candidate] == pytest.approx(min(totals), rel=1e-6)
        assert (bits <= before).all()
        before = bits
    assert not before.any(), "nothing is worth the highest price"


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**60])
def test_only_the_ratio_of_weights_counts(factor: float, sloping):
    found = find(sloping)
    scaled = find(changed(sloping, weight=factor * sloping.weight))
    check_legal(sloping, scaled)
    cost, other = (costs(sloping, f.idwl, f.offset).sum(-1) for f in (found, scaled))
    assert (10 * (other / cost).log10()).abs().max() < SAME_CHOICE


def test_weights_from_2_to_the_minus_60_to_60_are_taken(sloping, generator):
    case = changed(sloping, weight=torch.exp2(120 * torch.rand(36, 52, generator=generator) - 60))
    found = find(case)
    check_legal(case, found)
    assert found.idwl.any(-1).all()


def test_what_costs_next_to_nothing_gets_hardly_a_bit_and_what_costs_most_gets_the_most(flat):
    factors = torch.ones(52)
    factors[4], factors[11] = 2.0**-40, 2.0**40
    before, after = find(flat), find(changed(flat, weight=flat.weight * factors))
    assert before.idwl[:, 4].all(), "or this says nothing"
    assert (after.idwl[:, 4] > 0).float().mean() < 0.2, "bits that nothing else could use"
    assert (after.idwl[:, 11] == after.idwl.amax(-1)).all()
    assert (after.idwl[:, 11] > before.idwl[:, 11] + 4).all()


def test_a_price_is_where_to_start_not_what_is_paid(sloping):
    case = sloping
    scaled = ready(case)
    first = estimate(scaled)
    assert set(first.n_bfu.tolist()) <= set(t.BFU_AMOUNTS)
    choices = measure(scaled, first.idwl, REACH)
    costs_found = []
    for factor in (1 / 8, 1, 8):
        found = choose(choices, factor * first.price)
        assert (used_value_bits(found.idwl.T) <= value_bits(found.n_bfu)).all()
        costs_found.append(costs(case, found.idwl.T.float(), found.offset.T.float()).sum(-1))
    for other in costs_found[::2]:
        # Here and there it leads to another number of BFUs.
        alike = (10 * (other / costs_found[1]).log10()).abs() < SAME_CHOICE
        assert alike.float().mean() > 0.75


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


@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0])
def test_odd_spectra_are_searched_legally_alone_and_together(exponent: float):
    spectrum = torch.stack(list(ODD.values())).repeat_interleave(2, 0)
    bsm = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 3.0]]).repeat(len(ODD), 1)
    case = units(spectrum, bsm, exponent)
    together = find(case)
    check_legal(case, together)
    cost = costs(case, together.idwl, together.offset).sum(-1)
    assert torch.isfinite(cost).all()
    for k in range(len(spectrum)):
        one = SimpleNamespace(**{name: x[k : k + 1] for name, x in vars(case).items()})
        alone = find(one)
        check_legal(one, alone)
        # Where BFUs are alike, the last place of a sum says which of them come first, and how many of them.
        other = float(costs(one, alone.idwl, alone.offset).sum())
        assert other == pytest.approx(float(cost[k]), rel=10 ** (SAME_TIES / 10) - 1)
    n_bits = dict(zip(ODD, used_value_bits(together.idwl)[::2].tolist()))
    assert n_bits["silence"] == 0
    bfu = int(t.BFU_OF_VALUE[41])
    assert together.idwl[2].nonzero()[:, 0].tolist() == [bfu], "bits only where there is something"
    assert together.n_bfu[2] == 20
    assert together.n_bfu[4] == 52
    assert n_bits["all alike"] > 1000


def test_units_are_searched_alike_alone_and_in_any_order_of_dimensions(generator, random_bsm):
    spectrum = torch.randn(3, 5, 512, generator=generator) * 10.0 ** -torch.arange(5.0)[:, None]
    bsm = random_bsm(3, 5)
    idsf, stage = ReferenceScaler()(spectrum, bsm), RateDistortionAllocator()
    together = stage(spectrum, idsf, bsm)
    turned = stage(*(x.transpose(0, 1) for x in (spectrum, idsf, bsm)))
    for part in ("n_bfu", "idwl", "idsf"):
        whole = getattr(together, part)
        assert torch.equal(getattr(turned, part).transpose(0, 1), whole)
        for i in range(3):
            for k in range(5):
                alone = stage(*(x[i, k : k + 1] for x in (spectrum, idsf, bsm)))
                assert torch.equal(getattr(alone, part)[0], whole[i, k])


def test_more_effort_leaves_less_error(sloping):
    scaled = ready(sloping)
    error = {}
    for effort, reach in EFFORTS.items():
        found = search(scaled, reach)
        error[effort] = costs(sloping, found.idwl.T.float(), found.offset.T.float()).sum(-1).log().mean()
    assert error["fast"] > error["default"] + 0.05
    assert error["default"] > error["best"] - 1e-4
