from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_bitstream.tables import BFU_AMOUNTS, BFU_SIZES, WORD_LENGTHS
from atrac_modules import (
    Allocator,
    BitExactAllocator,
    BitExactLoudness,
    ReferenceAllocator,
    ReferenceScaler,
    used_value_bits,
    value_bits,
)
from atrac_modules.allocator import _BOOSTED, _FIXED_LONG, _FIXED_SHORT, _FRANK, hearing_threshold
from atrac_modules.water_filling import allocate, carries

STAGES = [ReferenceAllocator, BitExactAllocator]


@pytest.fixture
def frames(generator, random_bsm) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Spectra of all slopes and levels, silence among them, with their scale factors and block modes."""
    decay = torch.logspace(0, -4, 512) ** torch.rand(3, 30, 1, generator=generator)
    level = 10.0 ** -torch.randint(0, 5, (3, 30, 1), generator=generator)
    spectrum = (torch.randn(3, 30, 512, generator=generator) * decay * level).clamp(-2, 2)
    spectrum[0, 0] = 0
    bsm = random_bsm(3, 30)
    return spectrum, ReferenceScaler()(spectrum, bsm).idsf, bsm


@pytest.mark.parametrize("stage", STAGES)
def test_allocator_keeps_the_contract(stage: type[Allocator], keeps_contract, frames):
    keeps_contract(stage(), frames, ((30,), (30, 52), (30, 52)))


@pytest.mark.parametrize("stage", STAGES)
def test_allocations_are_legal_and_within_budget(stage: type[Allocator], frames):
    spectrum, idsf, bsm = frames
    for loudness in (None, torch.full((3, 30), 1e-6), torch.full((3, 30), 1e3)):
        result = stage()(spectrum, idsf, bsm, loudness)
        assert set(result.n_bfu.unique().tolist()) <= set(map(float, BFU_AMOUNTS))
        assert torch.equal(result.idwl, result.idwl.round().clamp(0, 15))
        assert not (result.idwl * ~carries(result.n_bfu)).any()
        assert (used_value_bits(result.idwl) <= value_bits(result.n_bfu)).all()
        assert result.idsf is idsf


@pytest.mark.parametrize("stage", STAGES)
def test_allocator_equals_golden(stage: type[Allocator], golden):
    loudness = BitExactLoudness()(golden.mdct[None], golden.bsm[None]).loudness
    result = stage()(golden.mdct, golden.idsf, golden.bsm, loudness.expand(len(golden.mdct), -1))
    assert torch.equal(result.n_bfu, torch.tensor(BFU_AMOUNTS)[golden.bfu_amount_idx.long()].float())
    assert torch.equal(result.idwl, golden.idwl)


def slow_allocation(wanted: list[float]) -> tuple[int, list[int]]:
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
        for bfu in _BOOSTED:
            if bfu < n_bfu and words[bfu] < 16:
                more = 1 if words[bfu] else 2
                if more * BFU_SIZES[bfu] <= spare:
                    words[bfu] += more
                    spare -= more * int(BFU_SIZES[bfu])
        if spare == before:
            return n_bfu, words + [0] * (52 - n_bfu)


def test_allocate_matches_a_loop_over_one_unit_at_a_time(generator):
    slope = torch.linspace(1, -1, 52) * 6 * torch.rand(200, 1, generator=generator)
    wanted = 8 * torch.rand(200, 1, generator=generator) + slope + torch.randn(200, 52, generator=generator)
    wanted[::7, 20:] = -torch.inf
    wanted[0] = -torch.inf
    n_bfu, idwl = allocate(wanted.double(), _BOOSTED)
    for k in range(200):
        expected = slow_allocation(wanted[k].double().tolist())
        assert (int(n_bfu[k]), WORD_LENGTHS[idwl[k]].tolist()) == expected


def test_a_spectrum_that_no_shift_in_the_range_fits_is_fitted_all_the_same():
    wanted = torch.full((1, 52), 40.0, dtype=torch.float64)
    n_bfu, idwl = allocate(wanted, _BOOSTED)
    assert (used_value_bits(idwl) <= value_bits(n_bfu)).all()
    assert idwl.any()


def test_tables_have_the_reference_codecs_values():
    assert len(_FIXED_LONG) == len(_FIXED_SHORT) == 52
    assert (_FIXED_LONG.sum(), _FIXED_SHORT.sum()) == (236, 236)
    assert (_FIXED_LONG[[0, 2, 3, 21, 22, 34, 35, 51]] == [7, 7, 6, 6, 5, 5, 4, 0]).all()
    assert (_FIXED_SHORT[[0, 23, 24, 35, 36, 43, 44]] == [6, 6, 5, 5, 4, 4, 0]).all()
    assert len(_FRANK) == 140
    assert (_FRANK[0], min(_FRANK), _FRANK[-1]) == (9669, -535, 9999)


def test_hearing_threshold_is_lowest_near_4_kilohertz_and_worked_out_at_one_bfu():
    threshold = hearing_threshold()
    assert threshold.shape == (52,)
    assert int(np.argmin(threshold)) == 13, "coefficients 86 to 91, 3.7 to 4 kHz"
    # The first coefficient lies at 22.05 / 512 kHz; by hand for the last of BFU 0, the eighth, 344.5 Hz.
    position = 40 * np.log10(34.453125)
    index = int(position)
    frank = 0.01 * (_FRANK[index] * (1 + index - position) + _FRANK[index + 1] * (position - index))
    by_hand = 10 ** (0.1 * (frank - 100 - 0.015 * 0.34453125**2))
    assert threshold[0] == pytest.approx(by_hand, rel=1e-5)


def test_inaudible_long_bfus_get_no_bits_but_short_ones_do():
    spectrum = torch.full((2, 512), 1e-7)
    spectrum[:, :128] = 0.1
    bsm = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 3.0]])
    idsf = ReferenceScaler()(spectrum, bsm).idsf
    result = ReferenceAllocator()(spectrum, idsf, bsm, torch.full((2,), 1e6))
    assert result.idwl[0, 23:32].sum() == 0
    assert result.n_bfu[1] >= result.n_bfu[0]


def test_slope_is_that_of_wanted_bits_less_their_mean(in_float64, generator):
    spectrum = 0.5 * torch.rand(1, 512, generator=generator, dtype=torch.float64)
    bsm = torch.zeros(1, 3, dtype=torch.float64)
    idsf = ReferenceScaler()(spectrum, bsm).idsf - torch.arange(52.0, dtype=torch.float64) / 3
    idsf = idsf.round().requires_grad_()
    result = ReferenceAllocator()(spectrum, idsf, bsm)
    n = int(result.n_bfu)
    sizes = torch.from_numpy(BFU_SIZES)[:n].double()

    def soft(x: torch.Tensor) -> torch.Tensor:
        spread = min(float(x.std(correction=0)), 14.0) / 14
        wanted = spread * x[0] / 3.2 + (1 - spread) * torch.from_numpy(_FIXED_LONG)
        return wanted[:n] - (wanted[:n] * sizes).sum() / sizes.sum()

    (slope,) = torch.autograd.grad(result.idwl[0, 5], idsf)
    for bfu in (5, 6, 40):
        step = torch.zeros(1, 52, dtype=torch.float64)
        step[0, bfu] = 1e-5
        difference = (soft(idsf.detach() + step) - soft(idsf.detach() - step))[5] / 2e-5
        assert slope[0, bfu].item() == pytest.approx(difference.item(), rel=1e-5, abs=1e-9)


def test_slope_is_finite_when_all_scale_factors_are_alike():
    idsf = torch.full((1, 52), 40.0, requires_grad=True)
    result = ReferenceAllocator()(torch.full((1, 512), 0.005), idsf, torch.zeros(1, 3))
    result.idwl.sum().backward()
    assert torch.isfinite(idsf.grad).all()
