"""Scaler: chooses a scale factor for each BFU.

    … ─mdct→ spectrum ─[ scaler ]→ idsf;  bsm from transient

A scale factor is 2 ** (idsf / 3 - 21), so 1 is the largest. Source: [atracdenc] atrac_scale.cpp; table:
docs/format.md.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, final

import torch
from torch import Tensor, nn

from atrac_bitstream.tables import IDSF_MAX, SCALE_FACTORS
from atrac_modules.bfu import BfuLayout
from atrac_modules.stage import Stage, check_shapes, full_precision
from atrac_modules.straight_through import hard_forward_soft_backward


class Scaler(Stage):
    """Chooses scale factors.

    Shape:  spectrum [*, F, 512], bsm [*, F, 3] -> idsf [*, F, 52]
    Dtype:  float32 or float64, kept; whole numbers 0..63
    Raises: ShapeError: the last dimensions are not [F, 512] and [F, 3].

    BFUs that the allocator will not carry have a scale factor too; the allocator may change any of them.
    """

    @abstractmethod
    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Choose a scale factor for each BFU."""


@final
class ReferenceScaler(Scaler):
    """The smallest scale factor that is not below the largest magnitude; at most 1.

    Exactly the reference codec's. Backward, idsf follows 3 log2(largest magnitude).

    Example:
        >>> ReferenceScaler()(torch.full((1, 512), 0.3), torch.zeros(1, 3))[0, :2]
        tensor([58., 58.])
    """

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layout = BfuLayout()
        self.add_table("table", SCALE_FACTORS)

    @full_precision
    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Choose a scale factor for each BFU."""
        check_shapes(spectrum=spectrum, bsm=bsm)
        largest = self.layout.maximum(spectrum, bsm)
        idsf = smallest_scale_factor(largest.detach(), self.table).to(largest.dtype)
        if largest.requires_grad:
            idsf = hard_forward_soft_backward(idsf, 3 * largest.clamp_min(float(SCALE_FACTORS[0])).log2())
        return idsf


@final
class NeuralScaler(Scaler):
    """A learned table of scale factors.

    idsf = number of scale factors below the largest magnitude, at most 63

    The choice by the largest magnitude and the number of 64 scale factors are built in; the table is learned.

    Backward, idsf follows the logarithm of the largest magnitude over the chosen scale factor, times the mean number
    of scale factors per octave.

    Example:
        >>> NeuralScaler()(torch.zeros(2, 512), torch.zeros(2, 3)).shape
        torch.Size([2, 52])
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.layout = BfuLayout()
        self.levels = nn.Parameter(-10 + 3 * torch.randn(IDSF_MAX + 1))
        """log2 of each scale factor [64]."""

    @full_precision
    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Choose a scale factor for each BFU."""
        check_shapes(spectrum=spectrum, bsm=bsm)
        largest = self.layout.maximum(spectrum, bsm)
        table = self.levels.detach().exp2().sort().values.to(largest.dtype)
        idsf = torch.bucketize(largest.detach(), table[:-1]).to(largest.dtype)
        if torch.is_grad_enabled() and (largest.requires_grad or self.levels.requires_grad):
            pace = IDSF_MAX / (self.levels.detach().max() - self.levels.detach().min()).clamp_min(1)
            own = self.levels.to(largest.dtype)[idsf.detach().long()]
            idsf = hard_forward_soft_backward(idsf, pace * (torch.maximum(largest, table[0]).log2() - own))
        return idsf


def smallest_scale_factor(largest: Tensor, table: Tensor) -> Tensor:
    """Return the index of the smallest scale factor not below a magnitude; 63 for all over 1.

    Every octave of the table has the same three mantissas, so that exponent and mantissa give the index.

    Shape: largest [*], table [64] -> int32 [*]
    """
    table = table.to(largest.dtype)
    mantissa, exponent = torch.frexp(largest.clamp(table[0], table[-1]))
    index = 3 * exponent + IDSF_MAX
    for step in torch.frexp(table[:3]).mantissa:
        index = index - (mantissa <= step).int()
    return index


def scale_factor(idsf: Tensor, table: Tensor) -> Tensor:
    """Look scale factors up; their slope is that of 2 ** (idsf / 3 - 21).

    Shape: idsf [*], table [64] -> [*]
    """
    value = table.index_select(0, idsf.detach().long().flatten()).view(idsf.shape)
    if not idsf.requires_grad:
        return value
    return value * (math.log(2) / 3 * (idsf - idsf.detach()) + 1)
