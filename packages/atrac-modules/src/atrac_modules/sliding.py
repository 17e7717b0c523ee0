"""Sliding filters as matrices: one product instead of a convolution, in full precision on every device.

On a GPU a convolution of float32 may run in TensorFloat-32, whose 10 bits would leave 60 dB; a matrix product does not
unless it is asked to. On a CPU it is also several times as fast.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad


def sliding_matrix(taps: Tensor, steps: int, stride: int = 1) -> Tensor:
    """Return the matrix that applies a filter at `steps` places, each `stride` samples after the one before.

    Args:
        taps: filters, the first tap for the oldest sample.

    Shape: taps [*, n] -> [*, n + stride (steps - 1), steps]
    Example:
        >>> import torch
        >>> sliding_matrix(torch.tensor([1, 2]), 3)
        tensor([[1, 0, 0],
                [2, 1, 0],
                [0, 2, 1],
                [0, 0, 2]])
    """
    length = taps.shape[-1] + stride * (steps - 1)
    # Rows that are `stride` too long, cut anew to the right length, are each shifted by `stride` more.
    rows = pad(taps, (0, length + stride - taps.shape[-1])).unsqueeze(-2)
    rows = rows.expand(*rows.shape[:-2], steps, -1).flatten(-2)[..., : steps * length]
    return rows.unflatten(-1, (steps, length)).transpose(-1, -2)
