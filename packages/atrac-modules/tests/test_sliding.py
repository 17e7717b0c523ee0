from __future__ import annotations

import pytest
import torch

from atrac_modules.sliding import sliding_matrix

SIZES = [(21, 16, 1), (48, 16, 2), (3, 5, 4), (2, 4, 5), (7, 1, 1), (1, 6, 3)]
"""(taps, places, stride)."""


@pytest.mark.parametrize(("taps", "steps", "stride"), SIZES)
def test_sliding_matrix_has_the_taps_where_a_loop_puts_them(taps: int, steps: int, stride: int, generator):
    filters = torch.randn(2, 3, taps, generator=generator)
    slow = torch.zeros(2, 3, taps + stride * (steps - 1), steps)
    for step in range(steps):
        slow[..., step * stride : step * stride + taps, step] = filters
    assert torch.equal(sliding_matrix(filters, steps, stride), slow)
