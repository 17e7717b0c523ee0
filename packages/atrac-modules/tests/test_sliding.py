from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d

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


@pytest.mark.parametrize(("taps", "steps", "stride"), SIZES)
def test_product_with_a_sliding_matrix_is_a_convolution(taps: int, steps: int, stride: int, generator):
    filters = torch.randn(3, taps, generator=generator, dtype=torch.float64)
    samples = torch.randn(5, taps + stride * (steps - 1), generator=generator, dtype=torch.float64)
    # torch's is a correlation, first tap for the oldest sample.
    want = conv1d(samples[:, None], filters[:, None], stride=stride)
    got = (samples @ sliding_matrix(filters, steps, stride)).transpose(0, 1)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_sliding_matrix_passes_gradcheck(generator):
    filters = torch.randn(2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: sliding_matrix(x, 3, 2), filters)
