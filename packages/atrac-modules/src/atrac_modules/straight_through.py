"""Gradients of decisions: forward a whole number, backward a stated slope.

Forward values are always whole and legal, in training too. Each class here states the slope of its backward pass.
"""

from __future__ import annotations

from typing import Final, Protocol, final

import torch
from torch import Tensor


class Rounding(Protocol):
    """An estimator for the quantizer: whole numbers forward, some slope backward."""

    def __call__(self, x: Tensor) -> Tensor:
        """Round `x` to whole numbers of the same dtype and shape."""


def hard_forward_soft_backward(hard: Tensor, soft: Tensor) -> Tensor:
    """Return the value of `hard` with the gradient of `soft`.

    If `soft` needs no gradient this is `hard` itself; otherwise the value is exact as long as `soft` is finite.
    """
    if not soft.requires_grad:
        return hard
    return hard.detach() + (soft - soft.detach())


@final
class StraightThrough:
    """Round half to even; slope 1 everywhere. Source: Bengio, Léonard and Courville 2013 [STE].

    Example:
        >>> x = torch.tensor([0.5, 1.7], requires_grad=True)
        >>> StraightThrough()(x).sum().backward()
        >>> x.grad
        tensor([1., 1.])
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Round `x`; slope 1."""
        return hard_forward_soft_backward(x.round(), x)


@final
class UniformNoise:
    """Round after adding noise from -0.5 to 0.5, so that the mean of the result is `x`; slope 1.

    Args:
        generator: source of the noise; None takes torch's global one.

    Differs: [BALLE-2017] keeps the noisy value; here it is rounded, because results must be whole.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def __call__(self, x: Tensor) -> Tensor:
        """Round `x` plus noise; slope 1."""
        noise = torch.rand(x.shape, generator=self.generator, dtype=x.dtype, device=x.device) - 0.5
        return hard_forward_soft_backward((x + noise).round(), x)


@final
class SoftRounding:
    """Round half to even; the slope of s(x) = floor(x) + 0.5 + tanh(a r) / (2 tanh(a / 2)), r = x - floor(x) - 0.5.

    The slope is steep half way between two whole numbers and flat on them: s'(x) = a (1 - tanh(a r) ** 2) /
    (2 tanh(a / 2)).

    Args:
        sharpness: a > 0; towards 0 the slope becomes 1 everywhere, large values concentrate it half way between
            whole numbers.

    Source: [AGUSTSSON-2020] sec. 4.1.
    """

    def __init__(self, sharpness: float = 4.0) -> None:
        if not sharpness > 0:
            raise ValueError(f"sharpness = {sharpness}, allowed > 0")
        self.sharpness: Final = sharpness

    def __call__(self, x: Tensor) -> Tensor:
        """Round `x`; the slope of the soft staircase."""
        a = x.new_tensor(self.sharpness)
        base = x.detach().floor()
        soft = torch.tanh(a * (x - base - 0.5)) / (2 * torch.tanh(a / 2))
        return hard_forward_soft_backward(x.round(), soft)
