"""Scaler: finds a scale factor for each BFU and divides its coefficients by it.

    … ─mdct→ spectrum ─[ scaler ]→ idsf, scaled;  bsm from transient

A scale factor is 2 ** (idsf / 3 - 21), so 1 is the largest. Source: [atracdenc] atrac_scale.cpp; table:
docs/format.md.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from atrac_bitstream.tables import FRAME_SAMPLES, IDSF_MAX, N_BANDS, N_BFU_MAX, SCALE_FACTORS
from atrac_modules.bfu import BfuLayout
from atrac_modules.stage import Stage, any_at_all, check_shape, full_precision
from atrac_modules.straight_through import hard_forward_soft_backward

LARGEST_SCALED: Final = 0.99999
"""What a scaled value of 1 or more becomes."""


@dataclass(frozen=True)
class Scaled:
    """What a scaler finds. Shape: idsf [*, F, 52], scaled [*, F, 512]."""

    idsf: Tensor
    scaled: Tensor


class Scaler(Stage):
    """Finds scale factors, and scales.

    Shape:  spectrum [*, F, 512], bsm [*, F, 3] -> idsf [*, F, 52], scaled [*, F, 512]
    Dtype:  float32 or float64, kept; idsf whole numbers 0..63; |scaled| < 1
    Raises: ShapeError: the last dimensions are not [F, 512] and [F, 3].
    """

    def forward(self, spectrum: Tensor, bsm: Tensor) -> Scaled:
        """Find a scale factor for each BFU and scale its coefficients by it."""
        idsf = self.find(spectrum, bsm)
        return Scaled(idsf, self.scale(spectrum, idsf, bsm))

    @abstractmethod
    def find(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Find a scale factor for each BFU.

        Shape: spectrum [*, F, 512], bsm [*, F, 3] -> idsf [*, F, 52]
        """

    @abstractmethod
    def scale(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor) -> Tensor:
        """Scale by scale factors that are given, those an allocator returned.

        Shape: spectrum [*, F, 512], idsf [*, F, 52], bsm [*, F, 3] -> scaled [*, F, 512]
        """


@final
class ReferenceScaler(Scaler):
    """The smallest scale factor that is not below the largest magnitude; at most 1.

    Exactly the reference codec's. A scaled value of 1 or more (the largest magnitude equals the scale factor, or is
    over 1) becomes 0.99999.

    Backward, idsf follows 3 log2(largest magnitude), and scaled the true quotient where it is not clipped.

    Example:
        >>> result = ReferenceScaler()(torch.full((1, 512), 0.3), torch.zeros(1, 3))
        >>> result.idsf[0, :2], round(result.scaled[0, 0].item(), 4)
        (tensor([58., 58.]), 0.9524)
    """

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layout = BfuLayout()
        self.add_table("table", SCALE_FACTORS)

    @full_precision
    def find(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Find a scale factor for each BFU."""
        check_shape("spectrum", spectrum, -1, FRAME_SAMPLES)
        check_shape("bsm", bsm, -1, N_BANDS)
        largest = self.layout.maximum(spectrum, bsm)
        idsf = smallest_scale_factor(largest.detach(), self.table).to(largest.dtype)
        if largest.requires_grad:
            idsf = hard_forward_soft_backward(idsf, 3 * largest.clamp_min(float(SCALE_FACTORS[0])).log2())
        return idsf

    @full_precision
    def scale(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor) -> Tensor:
        """Scale by scale factors that are given."""
        check_shape("idsf", idsf, -1, N_BFU_MAX)
        return _scale(spectrum, scale_factor(idsf, self.table.to(spectrum.dtype)), bsm, self.layout)


@final
class NeuralScaler(Scaler):
    """A learned table of scale factors, which decides and divides.

    idsf = number of scale factors below the largest magnitude, at most 63; scaled = spectrum / scale factor of idsf

    That a BFU goes by its largest magnitude, that there are 64 scale factors, and that nothing reaches 1 is built in;
    the table is learned.

    Backward, idsf follows the logarithm of the largest magnitude at the table's mean pace.

    Example:
        >>> result = NeuralScaler()(torch.zeros(2, 512), torch.zeros(2, 3))
        >>> result.idsf.shape, result.scaled.shape
        (torch.Size([2, 52]), torch.Size([2, 512]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.layout = BfuLayout()
        self.levels = nn.Parameter(-10 + 3 * torch.randn(IDSF_MAX + 1))
        """log2 of each scale factor [64]."""

    @full_precision
    def find(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Find a scale factor for each BFU."""
        check_shape("spectrum", spectrum, -1, FRAME_SAMPLES)
        check_shape("bsm", bsm, -1, N_BANDS)
        largest = self.layout.maximum(spectrum, bsm)
        table = self.levels.detach().exp2().sort().values.to(largest.dtype)
        idsf = torch.bucketize(largest.detach(), table[:-1]).to(largest.dtype)
        if largest.requires_grad:
            pace = IDSF_MAX / (self.levels.detach().max() - self.levels.detach().min()).clamp_min(1)
            idsf = hard_forward_soft_backward(idsf, pace * torch.maximum(largest, table[0]).log2())
        return idsf

    @full_precision
    def scale(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor) -> Tensor:
        """Scale by scale factors that are given."""
        check_shape("idsf", idsf, -1, N_BFU_MAX)
        return _scale(spectrum, scale_factor(idsf, self.levels.exp2().to(spectrum.dtype)), bsm, self.layout)


def _scale(spectrum: Tensor, factors: Tensor, bsm: Tensor, layout: BfuLayout) -> Tensor:
    scaled = spectrum / layout.expand(factors, bsm)
    over = scaled.detach().abs() >= 1
    return torch.where(over, LARGEST_SCALED * scaled.detach().sign(), scaled) if any_at_all(over) else scaled


def smallest_scale_factor(largest: Tensor, table: Tensor) -> Tensor:
    """Find the index of the smallest scale factor not below a magnitude; 63 for all over 1.

    Within each octave the table's steps are the same three, so that exponent and mantissa tell.

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
