from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from atrac_bitstream.tables import BFU_AMOUNTS, BFU_SIZES, WORD_LENGTHS
from atrac_modules import used_value_bits, value_bits
from atrac_modules.allocator import _BOOSTED
from atrac_modules.water_filling import NEVER, allocate, allocate_by_turn, by_turn, carries, water_fill

ORDERS = {"reference": _BOOSTED, "none": (), "backwards": _BOOSTED[::-1], "all": range(52), "mixed": (51, 0, 30, 7, 12)}
TURN = torch.full((52,), NEVER).index_copy(0, torch.tensor(_BOOSTED), torch.linspace(0, 1, len(_BOOSTED)))
"""The reference codec's order."""


@pytest.fixture
def wanted(generator) -> torch.Tensor:
    """What 200 sound units want, from nothing to far too much [200, 52], float64."""
    slope = torch.linspace(1, -1, 52) * 6 * torch.rand(200, 1, generator=generator)
    wanted = 8 * torch.rand(200, 1, generator=generator) + slope + torch.randn(200, 52, generator=generator)
    wanted[::7, 20:] = -torch.inf
    wanted[0] = -torch.inf
    return wanted.double()


@pytest.fixture
def soft(wanted, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """What they want, all of it finite and with a slope, and which BFUs are audible."""
    audible = torch.rand(200, 52, generator=generator) > 0.2
    audible[1] = False
    return wanted.clamp_min(-40).requires_grad_(), audible


def slow_allocation(wanted: list[float], boosted: Sequence[int]) -> tuple[int, list[int]]:
    """Allocate one sound unit as the reference codec does, step by step."""
    amount = len(BFU_AMOUNTS) - 1
    while True:
        n_bfu = BFU_AMOUNTS[amount]
        available = 1656 - 10 * n_bfu
        low, high, shift = -3.0, 15.0, 3.0
        while True:
            words = [min(int(w - shift), 16) if w - shift >= 2 else 0 for w in wanted[:n_bfu]]
            bits = sum(w * int(s) for w, s in zip(words, BFU_SIZES))
            if bits > available:
                low, shift = shift, shift + (high - shift) / 2
            elif bits < available - 110 and high - low >= 0.1:
                high, shift = shift, shift - (shift - low) / 2
            else:
                break
        if amount and not any(words[BFU_AMOUNTS[amount - 1] :]):
            amount -= 1
            continue
        break
    spare = available - bits
    while True:
        before = spare
        for bfu in boosted:
            if bfu < n_bfu and words[bfu] < 16:
                more = 1 if words[bfu] else 2
                if more * BFU_SIZES[bfu] <= spare:
                    words[bfu] += more
                    spare -= more * int(BFU_SIZES[bfu])
        if spare == before:
            return n_bfu, words + [0] * (52 - n_bfu)


@pytest.mark.parametrize("order", ORDERS)
def test_allocate_matches_a_loop_over_one_unit_at_a_time(order: str, wanted):
    boosted = ORDERS[order]
    n_bfu, idwl = allocate(wanted, boosted)
    for k in range(0, 200, 1 if order == "reference" else 5):
        expected = slow_allocation(wanted[k].tolist(), boosted)
        assert (int(n_bfu[k]), WORD_LENGTHS[idwl[k]].tolist()) == expected


@pytest.mark.parametrize("order", ORDERS)
def test_allocations_are_legal_in_whatever_order_spare_bits_go(order: str, wanted):
    n_bfu, idwl = allocate(wanted, ORDERS[order])
    assert set(n_bfu.tolist()) <= set(BFU_AMOUNTS)
    assert torch.equal(idwl, idwl.clamp(0, 15))
    assert not (idwl * ~carries(n_bfu)).any()
    assert (used_value_bits(idwl) <= value_bits(n_bfu)).all()


def test_spare_bits_change_no_other_bfu_and_without_boosts_are_left(wanted):
    with_boosts, without = (allocate(wanted, order) for order in (_BOOSTED, ()))
    assert torch.equal(with_boosts[0], without[0])
    more = with_boosts[1] - without[1]
    assert (more >= 0).all()
    assert set(more.nonzero()[:, 1].tolist()) == set(_BOOSTED)
    left = value_bits(without[0]) - used_value_bits(without[1])
    taken = used_value_bits(with_boosts[1]) - used_value_bits(without[1])
    assert (taken <= left).all()


def test_the_bfu_whose_turn_is_first_gets_the_spare_bit(wanted):
    first, last = (allocate(wanted, order)[1] for order in ((18, 19), (19, 18)))
    assert (first[:, 18] >= last[:, 18]).all()
    assert (first[:, 19] <= last[:, 19]).all()
    assert (first != last).any()


def test_a_spectrum_that_no_shift_in_the_range_fits_is_fitted_all_the_same():
    wanted = torch.full((1, 52), 40.0, dtype=torch.float64)
    n_bfu, idwl = allocate(wanted, _BOOSTED)
    assert (used_value_bits(idwl) <= value_bits(n_bfu)).all()
    assert idwl.any()


def test_carries_tells_the_first_bfus():
    assert carries(torch.tensor([20, 52])).sum(-1).tolist() == [20, 52]
    assert carries(torch.tensor(28))[:28].all()


def test_water_fill_gives_what_allocate_gives_with_and_without_a_slope(soft):
    wanted, audible = soft
    n_bfu, idwl = allocate(wanted.detach().masked_fill(~audible, -torch.inf), _BOOSTED)
    for x in (wanted, wanted.detach()):
        result = water_fill(x, audible, TURN)
        assert torch.equal(result[0], n_bfu.double())
        assert torch.equal(result[1], idwl.double())


def test_a_common_change_of_what_all_want_changes_nothing(soft):
    wanted, audible = soft
    common = torch.zeros(200, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.linspace(-1, 2, 52, dtype=torch.float64)
    (slope,) = torch.autograd.grad((water_fill(wanted + common, audible, TURN)[1] * weight).sum(), common)
    assert slope.abs().max() < 1e-12


def test_whatever_changes_the_bits_stay_the_same(soft):
    # BFU size times slope sums to 0, whichever BFU wants more.
    wanted, audible = soft
    idwl = water_fill(wanted, audible, TURN)[1]
    (slope,) = torch.autograd.grad((idwl * torch.from_numpy(BFU_SIZES)).sum(), wanted)
    assert slope.abs().max() < 1e-12


def test_slope_is_1_less_the_share_of_the_bfus_size_and_0_outside(soft):
    wanted, audible = soft
    n_bfu, idwl = water_fill(wanted, audible, TURN)
    gets = audible & carries(n_bfu)
    (slope,) = torch.autograd.grad(idwl[:, 3].sum(), wanted)
    assert torch.isfinite(slope).all()
    assert not slope[~gets].any()
    assert not slope[~gets[:, 3]].any()
    unit = int(gets[:, [3, 9]].all(-1).nonzero()[0])
    total = int((gets[unit] * torch.from_numpy(BFU_SIZES)).sum())
    assert slope[unit, 3].item() == pytest.approx(1 - BFU_SIZES[3] / total, rel=1e-12)
    assert slope[unit, 9].item() == pytest.approx(-BFU_SIZES[9] / total, rel=1e-12)


def test_turns_say_the_order_the_same_for_one_operation(wanted):
    assert by_turn(TURN) == list(_BOOSTED)
    assert by_turn(torch.full((52,), NEVER)) == []
    for one, other in zip(allocate_by_turn(wanted, TURN), allocate(wanted, _BOOSTED), strict=True):
        assert torch.equal(one, other.double())


def test_the_search_is_one_operation_to_torchs_tools(wanted):
    torch.library.opcheck(allocate_by_turn, (wanted[:9], TURN))


def test_an_earlier_turn_is_a_wish_for_more(soft):
    wanted, audible = soft
    turn = TURN.double().requires_grad_()
    weight = torch.linspace(-1, 2, 52, dtype=torch.float64)
    idwl = water_fill(wanted, audible, turn)[1]
    slopes = torch.autograd.grad((idwl * weight).sum(), (wanted, turn))
    torch.testing.assert_close(slopes[1], -slopes[0].sum(0), rtol=0, atol=1e-11)
    assert slopes[1].abs().max() > 1


def test_audibility_switches_a_word_length_on(soft):
    wanted, audible = soft
    audibility = torch.where(audible, 0.5, -2.0).double().requires_grad_()
    n_bfu, idwl = water_fill(wanted.detach(), audible, TURN, audibility)
    assert torch.equal(idwl.detach(), water_fill(wanted.detach(), audible, TURN)[1])
    (slope,) = torch.autograd.grad(idwl.sum(), audibility)
    share = torch.sigmoid(audibility.detach())
    expected = share * (1 - share) * idwl.detach().clamp_min(1) * carries(n_bfu)
    torch.testing.assert_close(slope, expected)
    assert (slope[:, :20] > 0).all()
