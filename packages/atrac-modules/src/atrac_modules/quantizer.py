"""Quantizer: rounds scaled coefficients to the steps that their word length allows.

    scaled, idwl, bsm ─[ quantizer ]→ quantized

Source: [atracdenc] atrac1_bitalloc.cpp; [AES-3456].
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from atrac_bitstream.tables import FRAME_SAMPLES, IDWL_MAX, LEVELS, N_BANDS, N_BFU_MAX
from atrac_modules.bfu import BfuLayout
from atrac_modules.scaler import LARGEST_SCALED
from atrac_modules.stage import Stage, check_shape, full_precision
from atrac_modules.straight_through import Rounding, StraightThrough

_LEVELS: Final = np.where(np.arange(IDWL_MAX + 1) > 0, LEVELS, 0.0)
"""Largest magnitude by word length index; 0 without bits."""


class Quantizer(Stage):
    """Rounds scaled coefficients to whole numbers.

    Shape:  scaled [*, F, 512], idwl [*, F, 52], bsm [*, F, 3] -> quantized [*, F, 512]
    Dtype:  that of scaled, whole numbers, magnitude at most 2 ** (word length - 1) - 1, 0 where there are no bits
    Raises: ShapeError: the last dimensions are others.
    """

    @abstractmethod
    def forward(self, scaled: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Quantize `scaled` in the word length of each BFU."""


@final
class ReferenceQuantizer(Quantizer):
    """q = round(scaled x levels), levels = 2 ** (word length - 1) - 1. Exactly the reference codec's.

    Backward to scaled, `rounding` says the slope. Backward to idwl, what the reconstruction y = q / levels gains by
    the next word length: with d = y(next) - y and e = y - scaled, the slope of q in each coefficient is

        levels (d + e |d|² / (2 |e|²)),  norms over the BFU

    so that together with a dequantizer a loss L(y) gets L'·d plus half its curvature along d, the curvature taken for
    the one in L'·e. For a squared error, weighted per BFU or not, that is exactly the difference between the two
    errors, from 0 to 2 bits too; the first term alone is 2 to 3 times that. The last word length has no next one and
    takes the step that led to it.

    Args:
        rounding: estimator, see `straight_through.py`; `StraightThrough()` if None.

    Example:
        >>> quantizer, idwl = ReferenceQuantizer(), torch.full((1, 52), 2.0)
        >>> quantizer(torch.full((1, 512), 0.5), idwl, torch.zeros(1, 3))[0, :3]
        tensor([2., 2., 2.])
    """

    levels: Tensor

    def __init__(self, rounding: Rounding | None = None) -> None:
        super().__init__()
        self.rounding = rounding or StraightThrough()
        self.layout = BfuLayout()
        self.add_table("levels", _LEVELS)

    @full_precision
    def forward(self, scaled: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Quantize `scaled` in the word length of each BFU."""
        _check_shapes(scaled, idwl, bsm)
        index = idwl.detach().long()
        # Below 1 as it is, a scaled value stays in its word length however it is rounded; without bits it is times 0.
        scaled = scaled.clamp(-LARGEST_SCALED, LARGEST_SCALED)
        quantized = self.rounding(scaled * _look_up(self.levels.to(scaled.dtype), index, bsm, self.layout))
        return _with_slope(quantized, scaled, idwl, bsm, self.levels, self.layout)


@final
class NeuralQuantizer(Quantizer):
    """q = round(scaled x steps + offset x sign), with steps and offset learned for each word length.

    That a word length has so many bits, and hence so many levels at most, is built in; by how many steps a value is
    multiplied and where between two of them the decision lies is learned. A negative offset widens the zone that
    becomes 0.

    Backward as `ReferenceQuantizer`.

    Args:
        rounding: estimator, see `straight_through.py`; `StraightThrough()` if None.

    Example:
        >>> NeuralQuantizer()(torch.zeros(1, 512), torch.full((1, 52), 2.0), torch.zeros(1, 3)).shape
        torch.Size([1, 512])
    """

    levels: Tensor
    scale: Tensor

    def __init__(self, rounding: Rounding | None = None) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.rounding = rounding or StraightThrough()
        self.layout = BfuLayout()
        self.steps = nn.Parameter(0.5 + torch.rand(IDWL_MAX + 1))
        """Steps from 0 to 1, as a share of 2 ** (word length - 1)."""
        self.offset = nn.Parameter(0.4 * torch.rand(IDWL_MAX + 1) - 0.2)
        self.add_table("levels", _LEVELS)
        self.add_table("scale", _LEVELS + (_LEVELS > 0))

    @full_precision
    def forward(self, scaled: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Quantize `scaled` in the word length of each BFU."""
        _check_shapes(scaled, idwl, bsm)
        index = idwl.detach().long()
        largest = _look_up(self.levels.to(scaled.dtype), index, bsm, self.layout)
        exact = self.unrounded(scaled, index, bsm)
        quantized = self.rounding(torch.minimum(torch.maximum(exact, -largest), largest))
        # Rounding that adds noise may leave the word length again.
        over = (quantized.detach().abs() > largest).to(scaled.dtype)
        quantized = quantized - over * quantized.detach().sign()
        return _with_slope(quantized, scaled, idwl, bsm, self.levels, self.layout)

    def unrounded(self, scaled: Tensor, index: Tensor, bsm: Tensor) -> Tensor:
        """Return what is rounded. Shape: scaled [*, F, 512], index [*, F, 52] whole -> [*, F, 512]."""
        steps = _look_up((self.steps * self.scale).to(scaled.dtype), index, bsm, self.layout)
        offset = _look_up(self.offset.to(scaled.dtype), index, bsm, self.layout)
        sign = scaled.detach().sign()
        moved = scaled * steps + offset * sign
        return torch.where((moved * sign > 0) | (sign == 0), moved, 0.0)


def _check_shapes(scaled: Tensor, idwl: Tensor, bsm: Tensor) -> None:
    check_shape("scaled", scaled, -1, FRAME_SAMPLES)
    check_shape("idwl", idwl, -1, N_BFU_MAX)
    check_shape("bsm", bsm, -1, N_BANDS)


def _look_up(table: Tensor, index: Tensor, bsm: Tensor, layout: BfuLayout) -> Tensor:
    """Give each coefficient, in spectrum order, the table's value for the word length index of its BFU."""
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
