"""FIR filters as matrices: a matrix product instead of a convolution, in full precision on every device.

On a GPU, a float32 convolution may run in TensorFloat-32, whose 10-bit mantissa limits the result to 60 dB; a matrix
product does so only on request. On a CPU the product is also several times as fast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def sliding_matrix(taps: Tensor, steps: int, stride: int = 1) -> Tensor:
    """Return the matrix that applies a filter at `steps` positions, `stride` samples apart.

    Args:
        taps: filters, the first tap for the oldest sample.

    Shape: taps [*, n] -> [*, n + stride (steps - 1), steps]
    Example:
        >>> sliding_matrix(torch.tensor([1, 2]), 3)
        tensor([[1, 0, 0],
                [2, 1, 0],
                [0, 2, 1],
                [0, 0, 2]])
    """
    length = taps.shape[-1] + stride * (steps - 1)
    # Rows padded to `length + stride` and cut at multiples of `length` are each shifted by `stride` more.
    rows = pad(taps, (0, length + stride - taps.shape[-1])).unsqueeze(-2)
    rows = rows.expand(*rows.shape[:-2], steps, -1).flatten(-2)[..., : steps * length]
    return torch.unflatten(rows, -1, (steps, length)).transpose(-1, -2)
