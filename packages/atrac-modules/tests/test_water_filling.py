from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from atrac_bitstream.tables import BFU_AMOUNTS, BFU_SIZES, WORD_LENGTHS
from atrac_modules import used_value_bits, value_bits
from atrac_modules.allocator import _BOOSTED
from atrac_modules.bfu import carries
from atrac_modules.water_filling import RANK_LIMIT, allocate, allocate_by_rank, ranked_bfus, water_fill

ORDERS = {"reference": _BOOSTED, "none": (), "backwards": _BOOSTED[::-1], "all": range(52), "mixed": (51, 0, 30, 7, 12)}
RANK = torch.full((52,), RANK_LIMIT).index_copy(0, torch.tensor(_BOOSTED), torch.linspace(0, 1, len(_BOOSTED)))
"""The reference codec's order."""
SIZES = torch.from_numpy(BFU_SIZES)


@pytest.fixture
def desired(generator) -> torch.Tensor:
    """Desired word lengths of 100 sound units, from nothing to far too much [100, 52], float64."""
    slope = torch.linspace(1, -1, 52) * 6 * torch.rand(100, 1, generator=generator)
    desired = 8 * torch.rand(100, 1, generator=generator) + slope + torch.randn(100, 52, generator=generator)
    desired[::7, 20:] = -torch.inf
    desired[0] = -torch.inf
    return desired.double()


@pytest.fixture
def soft(desired, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Finite desired word lengths with a slope, and audible BFUs."""
    audible = torch.rand(100, 52, generator=generator) > 0.2
    audible[1] = False
    return desired.clamp_min(-40).requires_grad_(), audible


def slow_allocation(desired: list[float], boosted: Sequence[int]) -> tuple[int, list[int]]:
    """Allocate one sound unit as the reference codec does, step by step."""
    amount = len(BFU_AMOUNTS) - 1
    while True:
        n_bfu = BFU_AMOUNTS[amount]
        available = 1656 - 10 * n_bfu
        low, high, shift = -3.0, 15.0, 3.0
        while True:
            words = [min(int(w - shift), 16) if w - shift >= 2 else 0 for w in desired[:n_bfu]]
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
def test_allocate_matches_a_loop_over_one_unit_at_a_time(order: str, desired):
    n_bfu, idwl = allocate(desired, ORDERS[order])
    for k in range(0, 100, 1 if order == "reference" else 5):
        expected = slow_allocation(desired[k].tolist(), ORDERS[order])
        assert (int(n_bfu[k]), WORD_LENGTHS[idwl[k]].tolist()) == expected
    assert not (idwl * ~carries(n_bfu)).any()
    assert (used_value_bits(idwl) <= value_bits(n_bfu)).all()


def test_desired_lengths_that_no_shift_in_the_range_fits_are_fitted():
    n_bfu, idwl = allocate(torch.full((1, 52), 40.0, dtype=torch.float64), _BOOSTED)
    assert (used_value_bits(idwl) <= value_bits(n_bfu)).all()
    assert idwl.any()


def test_water_fill_gives_what_allocate_gives_with_and_without_a_slope(soft):
    desired, audible = soft
    n_bfu, idwl = allocate(desired.detach().masked_fill(~audible, -torch.inf), _BOOSTED)
    for x in (desired, desired.detach()):
        result = water_fill(x, audible, RANK)
        assert torch.equal(result[0], n_bfu.double())
        assert torch.equal(result[1], idwl.double())


def test_slope_is_1_minus_the_share_of_the_bfus_size_and_keeps_the_bits(soft):
    desired, audible = soft
    n_bfu, idwl = water_fill(desired, audible, RANK)
    filled = audible & carries(n_bfu)
    (slope,) = torch.autograd.grad(idwl[:, 3].sum(), desired, retain_graph=True)
    share = filled * SIZES / (filled * SIZES).sum(-1, keepdim=True).clamp_min(1)
    expected = filled[:, 3, None] * (torch.eye(52)[3] - share)
    torch.testing.assert_close(slope, expected.double(), rtol=1e-6, atol=1e-6)
    # A common change of all desired word lengths changes nothing, and no change alters the number of bits.
    assert slope.sum(-1).abs().max() < 1e-12
    (slope,) = torch.autograd.grad((idwl * SIZES).sum(), desired)
    assert slope.abs().max() < 1e-12


def test_ranks_give_the_order_of_spare_bits(desired):
    assert ranked_bfus(RANK) == list(_BOOSTED)
    assert ranked_bfus(torch.full((52,), RANK_LIMIT)) == []
    for one, other in zip(allocate_by_rank(desired, RANK), allocate(desired, _BOOSTED), strict=True):
        assert torch.equal(one, other.double())
    torch.library.opcheck(allocate_by_rank, (desired[:9], RANK), test_utils=("test_schema", "test_faketensor"))


def test_a_higher_rank_has_the_slope_of_a_shorter_desired_length(soft):
    desired, audible = soft
    rank = RANK.double().requires_grad_()
    weight = torch.linspace(-1, 2, 52, dtype=torch.float64)
    idwl = water_fill(desired, audible, rank)[1]
    slopes = torch.autograd.grad((idwl * weight).sum(), (desired, rank))
    torch.testing.assert_close(slopes[1], -slopes[0].sum(0), rtol=0, atol=1e-11)
    assert slopes[1].abs().max() > 1


def test_audibility_has_the_slope_of_a_factor_of_the_word_length(soft):
    desired, audible = soft
    audibility = torch.where(audible, 0.5, -2.0).double().requires_grad_()
    n_bfu, idwl = water_fill(desired.detach(), audible, RANK, audibility)
    assert torch.equal(idwl.detach(), water_fill(desired.detach(), audible, RANK)[1])
    (slope,) = torch.autograd.grad(idwl.sum(), audibility)
    share = torch.sigmoid(audibility.detach())
    torch.testing.assert_close(slope, share * (1 - share) * idwl.detach().clamp_min(1) * carries(n_bfu))
