"""Quantizer: divides coefficients by their scale factors and rounds them to whole numbers of their word length.

    spectrum, idsf, idwl, bsm ─[ quantizer ]→ quantized

Source: [atracdenc] atrac1_bitalloc.cpp; [AES-3456].
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from atrac_bitstream.tables import IDSF_MAX, IDWL_MAX, LEVELS, SCALE_FACTORS
from atrac_modules.bfu import BfuLayout
from atrac_modules.scaler import scale_factor
from atrac_modules.stage import Stage, any_true, check_shapes, full_precision
from atrac_modules.straight_through import Rounding, StraightThrough

_LEVELS: Final = np.where(np.arange(IDWL_MAX + 1) > 0, LEVELS, 0.0)
"""Largest magnitude by word length index; 0 without bits."""
LARGEST_SCALED: Final = 0.99999
"""What a scaled value of 1 or more becomes."""


class Quantizer(Stage):
    """Divides coefficients by their scale factors and rounds them to whole numbers, the inverse of `Dequantizer`.

    Shape:  spectrum [*, F, 512], idsf [*, F, 52], idwl [*, F, 52], bsm [*, F, 3] -> quantized [*, F, 512]
    Dtype:  that of spectrum, whole numbers, magnitude at most 2 ** (word length - 1) - 1, 0 where there are no bits
    Raises: ShapeError: the last dimensions are others.
    """

    @abstractmethod
    def forward(self, spectrum: Tensor, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Quantize `spectrum` with the scale factor and in the word length of each BFU."""

    @abstractmethod
    def scaled(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor) -> Tensor:
        """Divide coefficients by their scale factors; magnitudes of 1 or more become 0.99999.

        Backward, the slope is that of the quotient where it is not clipped.

        Shape: spectrum [*, F, 512], idsf [*, F, 52], bsm [*, F, 3] -> [*, F, 512]
        """


@final
class ReferenceQuantizer(Quantizer):
    """q = round(scaled x levels), levels = 2 ** (word length - 1) - 1. Exactly the reference codec's.

    Backward, `rounding` states the slope along the scaled coefficients. The slope along idwl is the effect of the next
    word length on the reconstruction y = q / levels: with d = y(next) - y and e = y - scaled, the slope of q in each
    coefficient is

        levels (d + e |d|² / (2 |e|²)),  norms over the BFU

    so that, after a dequantizer, the slope of a loss L(y) is L'·d plus half its curvature along d, where the curvature
    is estimated from L'·e. For a squared error, weighted by BFU or not, that is exactly the difference between the two
    errors, also from 0 to 2 bits; the first term alone is 2 to 3 times as large. The longest word length has no next
    one and uses the step from the one before.

    Args:
        rounding: estimator, see `straight_through.py`; `StraightThrough()` if None.

    Example:
        >>> quantizer, idwl = ReferenceQuantizer(), torch.full((1, 52), 2.0)
        >>> quantizer(torch.full((1, 512), 0.25), torch.full((1, 52), 60.0), idwl, torch.zeros(1, 3))[0, :3]
        tensor([2., 2., 2.])
    """

    levels: Tensor
    scale_factors: Tensor

    def __init__(self, rounding: Rounding | None = None) -> None:
        super().__init__()
        self.rounding = rounding or StraightThrough()
        self.layout = BfuLayout()
        self.add_table("levels", _LEVELS)
        self.add_table("scale_factors", SCALE_FACTORS)

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Quantize `spectrum` with the scale factor and in the word length of each BFU."""
        check_shapes(spectrum=spectrum, idsf=idsf, idwl=idwl, bsm=bsm)
        index = idwl.detach().long()
        # Below 1, a scaled value stays in its word length however it is rounded; without bits it is multiplied by 0.
        scaled = self.scaled(spectrum, idsf, bsm).clamp(-LARGEST_SCALED, LARGEST_SCALED)
        quantized = self.rounding(scaled * _look_up(self.levels.to(scaled.dtype), index, bsm, self.layout))
        return _with_slope(quantized, scaled, idwl, bsm, self.levels, self.layout)

    @full_precision
    def scaled(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor) -> Tensor:
        """Divide coefficients by their scale factors."""
        return _scaled(spectrum, idsf, bsm, self.scale_factors, self.layout)


@final
class NeuralQuantizer(Quantizer):
    """q = round(scaled x steps + offset x sign), with steps and offset learned for each word length.

    The number of levels of each word length is built in; the number of steps to full scale and the decision levels
    between them are learned. A negative offset widens the zone that becomes 0. The table of scale factors is saved with
    the weights but not trained here: it is the scaler's, because both have to use the same numbers.

    Backward as `ReferenceQuantizer`.

    Args:
        rounding: estimator, see `straight_through.py`; `StraightThrough()` if None.

    Example:
        >>> idsf, idwl = torch.full((1, 52), 63.0), torch.full((1, 52), 2.0)
        >>> NeuralQuantizer()(torch.zeros(1, 512), idsf, idwl, torch.zeros(1, 3)).shape
        torch.Size([1, 512])
    """

    levels: Tensor
    log2_scale_factors: Tensor
    scale: Tensor

    def __init__(self, rounding: Rounding | None = None) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.rounding = rounding or StraightThrough()
        self.layout = BfuLayout()
        self.steps = nn.Parameter(0.5 + torch.rand(IDWL_MAX + 1))
        """Steps to full scale, divided by 2 ** (word length - 1)."""
        self.offset = nn.Parameter(0.4 * torch.rand(IDWL_MAX + 1) - 0.2)
        self.add_table("levels", _LEVELS)
        self.add_table("scale", _LEVELS + (_LEVELS > 0))
        self.register_buffer("log2_scale_factors", torch.arange(IDSF_MAX + 1) / 3 - 21)

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Quantize `spectrum` with the scale factor and in the word length of each BFU."""
        check_shapes(spectrum=spectrum, idsf=idsf, idwl=idwl, bsm=bsm)
        index = idwl.detach().long()
        scaled = self.scaled(spectrum, idsf, bsm)
        largest = _look_up(self.levels.to(scaled.dtype), index, bsm, self.layout)
        exact = self.unrounded(scaled, index, bsm)
        quantized = self.rounding(torch.minimum(torch.maximum(exact, -largest), largest))
        # Rounding with noise may exceed the word length again.
        over = (quantized.detach().abs() > largest).to(scaled.dtype)
        quantized = quantized - over * quantized.detach().sign()
        return _with_slope(quantized, scaled, idwl, bsm, self.levels, self.layout)

    @full_precision
    def scaled(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor) -> Tensor:
        """Divide coefficients by their scale factors."""
        return _scaled(spectrum, idsf, bsm, self.log2_scale_factors.exp2(), self.layout)

    def unrounded(self, scaled: Tensor, index: Tensor, bsm: Tensor) -> Tensor:
        """Return values before rounding. Shape: scaled [*, F, 512], index [*, F, 52] whole -> [*, F, 512]."""
        steps = _look_up((self.steps * self.scale).to(scaled.dtype), index, bsm, self.layout)
        offset = _look_up(self.offset.to(scaled.dtype), index, bsm, self.layout)
        sign = scaled.detach().sign()
        moved = scaled * steps + offset * sign
        return torch.where((moved * sign > 0) | (sign == 0), moved, 0.0)


def _scaled(spectrum: Tensor, idsf: Tensor, bsm: Tensor, table: Tensor, layout: BfuLayout) -> Tensor:
    """Divide by the scale factors of a table [64]; see `Quantizer.scaled`."""
    scaled = spectrum / layout.expand(scale_factor(idsf, table.to(spectrum.dtype)), bsm)
    over = scaled.detach().abs() >= 1
    return torch.where(over, LARGEST_SCALED * scaled.detach().sign(), scaled) if any_true(over) else scaled


def _look_up(table: Tensor, index: Tensor, bsm: Tensor, layout: BfuLayout) -> Tensor:
    """Look up a table for the word length index of each coefficient's BFU, in spectrum order."""
    return layout.expand(table.index_select(0, index.flatten()).view(index.shape), bsm)


def _with_slope(
    quantized: Tensor, scaled: Tensor, idwl: Tensor, bsm: Tensor, levels: Tensor, layout: BfuLayout
) -> Tensor:
    """Return `quantized` with the slope along the word length that `ReferenceQuantizer` describes."""
    if not idwl.requires_grad:
        return quantized
    index, scaled = idwl.detach().long(), scaled.detach()
    steps = levels.to(scaled.dtype)
    levels = steps.clamp_min(1)
    own = _look_up(levels, index, bsm, layout)
    y = quantized.detach() / own
    direction = torch.where(index == IDWL_MAX, -1, 1)
    other = (scaled * _look_up(steps, index + direction, bsm, layout)).round()
    other = other / _look_up(levels, index + direction, bsm, layout)
    step, error = other - y, y - scaled
    norms = layout.sum(step.square(), bsm), layout.sum(error.square(), bsm)
    ratio = torch.where(norms[1] > 0, norms[0] / norms[1].clamp_min(torch.finfo(y.dtype).tiny), 0.0)
    gain = step + error * layout.expand(ratio / 2, bsm)
    slope = own * gain * layout.expand(direction.to(y.dtype), bsm)
    return quantized + layout.expand(idwl - idwl.detach(), bsm) * slope
