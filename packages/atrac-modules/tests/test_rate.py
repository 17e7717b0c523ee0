from __future__ import annotations

import pytest
import torch

from atrac_bitstream import value_bits as bits_of_tables
from atrac_bitstream.tables import BFU_AMOUNTS, BFU_SIZES, WORD_LENGTHS
from atrac_modules import used_value_bits, value_bits, word_length


def test_word_length_has_the_tables_values_and_the_next_step_as_slope():
    idwl = torch.arange(16.0, requires_grad=True)
    length = word_length(idwl)
    assert length.tolist() == WORD_LENGTHS.tolist()
    (slope,) = torch.autograd.grad(length.sum(), idwl)
    assert slope.tolist() == [2.0] + [1.0] * 15


def test_used_bits_are_those_of_a_sum_over_the_bfus(generator):
    idwl = torch.randint(0, 16, (7, 52), generator=generator).float()
    slow = [sum(int(WORD_LENGTHS[int(i)]) * int(n) for i, n in zip(row, BFU_SIZES)) for row in idwl.tolist()]
    assert used_value_bits(idwl).tolist() == slow


@pytest.mark.parametrize("n_bfu", BFU_AMOUNTS)
def test_value_bits_are_those_of_the_tables(n_bfu: int):
    assert value_bits(torch.tensor(n_bfu)).item() == bits_of_tables(n_bfu)
