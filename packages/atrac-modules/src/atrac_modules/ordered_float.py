"""float32 arithmetic in the reference codec's order, for the `BitExact…` stages.

Additions, multiplications and divisions give the same results everywhere once their order is fixed; square roots,
logarithms and Fourier transforms do not, and are defined here.
Source: [kissfft] for the order of the transform, [glibc] for `log10f`.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LOG10_2_HIGH: Final = 3.0102920532e-01
_LOG10_2_LOW: Final = 7.9034151668e-07
_LOG10_E: Final = 4.3429449201e-01


def sqrt32(x: Tensor) -> Tensor:
    """Take the correctly rounded float32 square root (torch's own is not, on CPU)."""
    return x.double().sqrt().float()


def log10f(x: Tensor) -> Tensor:
    """Take the float32 logarithm to base 10 as the C library's `log10f` does up to glibc 2.40.

    y log10(2) + log10(e) ln(m), x = m 2 ** y, 1 <= m < 2 (below 1: 0.5 <= m < 1). A correctly rounded logarithm
    differs from it in the last bit for one argument in 30.
    """
    mantissa, exponent = torch.frexp(x)
    y = exponent - 1
    below_one = y < 0
    y = torch.where(below_one, y + 1, y).float()
    mantissa = torch.where(below_one, mantissa, 2 * mantissa)
    log = mantissa.double().log().float()
    result = (y * _LOG10_2_LOW + log * _LOG10_E) + y * _LOG10_2_HIGH
    return torch.where(x == 0, x.new_tensor(-math.inf), result)


def running_sum(x: Tensor) -> Tensor:
    """Sum the last dimension in order, one float32 addition at a time."""
    columns = x.movedim(-1, 0).contiguous()
    total = torch.zeros_like(columns[0])
    for column in columns:
        total += column
    return total


def fft_twiddles(n: int) -> NDArray[np.float32]:
    """Return exp(-2 pi i k / n) as [2, n] float32, rounded from double."""
    phase = -2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(phase), np.sin(phase)]).astype(np.float32)


def fft(real: Tensor, imaginary: Tensor, twiddles: Tensor) -> tuple[Tensor, Tensor]:
    """Transform the last dimension, decimating in time with radix 4 first, then 2, as KissFFT factors it.

    Shape: real, imaginary [*, n], twiddles [2, N] with n dividing N -> [*, n] twice
    """
    n = real.shape[-1]
    if n == 1:
        return real, imaginary
    radix = 4 if n % 4 == 0 else 2
    parts = [fft(real[..., k::radix], imaginary[..., k::radix], twiddles) for k in range(radix)]
    stride = twiddles.shape[-1] // n
    turned = [parts[0]]
    for k in range(1, radix):
        c, s = twiddles[:, : n // radix * k * stride : k * stride]
        r, i = parts[k]
        turned.append((r * c - i * s, r * s + i * c))
    if radix == 2:
        (r0, i0), (r1, i1) = turned
        return torch.cat([r0 + r1, r0 - r1], -1), torch.cat([i0 + i1, i0 - i1], -1)
    (r0, i0), (r1, i1), (r2, i2), (r3, i3) = turned
    minus_r, minus_i = r0 - r2, i0 - i2
    plus_r, plus_i = r0 + r2, i0 + i2
    sum_r, sum_i = r1 + r3, i1 + i3
    difference_r, difference_i = r1 - r3, i1 - i3
    return (
        torch.cat([plus_r + sum_r, minus_r + difference_i, plus_r - sum_r, minus_r - difference_i], -1),
        torch.cat([plus_i + sum_i, minus_i - difference_r, plus_i - sum_i, minus_i + difference_r], -1),
    )
