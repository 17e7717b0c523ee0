"""Time one forward and backward pass of each measure: pytest benchmarks/bench_measures.py."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from atrac_losses import l1, log_spectral_distance, mse, segmental_snr, si_sdr, snr


@pytest.mark.parametrize("measure", [mse, l1, snr, si_sdr, segmental_snr, log_spectral_distance])
def test_forward_and_backward(benchmark: Any, measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    reference = 0.3 * torch.randn(16, 65536, generator=torch.Generator().manual_seed(0))
    estimate = (0.99 * reference).requires_grad_()
    benchmark(lambda: torch.autograd.grad(measure(estimate, reference), estimate))
