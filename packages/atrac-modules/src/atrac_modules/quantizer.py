"""Quantizer: rounds scaled coefficients to the steps that their word length allows.

    scaled, idwl, bsm ─[ quantizer ]→ quantized

Source: [atracdenc] atrac1_bitalloc.cpp; [AES-3456].
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from atrac_bitstream.tables import FRAME_SAMPLES, IDWL_MAX, LEVELS, N_BANDS, N_BFU_MAX
from atrac_modules.bfu import BfuLayout
from atrac_modules.scaler import LARGEST_SCALED
from atrac_modules.stage import Stage, check_shape, full_precision
from atrac_modules.straight_through import Rounding, StraightThrough


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
        self.add_table("levels", LEVELS.astype("float64"))

    @full_precision
    def forward(self, scaled: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Quantize `scaled` in the word length of each BFU."""
        check_shape("scaled", scaled, -1, FRAME_SAMPLES)
        check_shape("idwl", idwl, -1, N_BFU_MAX)
        check_shape("bsm", bsm, -1, N_BANDS)
        index = idwl.detach().long()
        # Below 1 as it is, a scaled value stays in its word length however it is rounded; without bits it is times 0.
        scaled = scaled.clamp(-LARGEST_SCALED, LARGEST_SCALED)
        quantized = self.rounding(scaled * self._levels(index, bsm, scaled.dtype, without_bits=0))
        if idwl.requires_grad:
            levels = self._levels(index, bsm, scaled.dtype, without_bits=1)
            slope = levels * self._gain(scaled.detach(), quantized.detach() / levels, index, bsm)
            quantized = quantized + self.layout.expand(idwl - idwl.detach(), bsm) * slope
        return quantized

    def _levels(self, index: Tensor, bsm: Tensor, dtype: torch.dtype, without_bits: int) -> Tensor:
        """Return the levels of each coefficient, in spectrum order."""
        table = self.levels.to(dtype).clone()
        table[0] = without_bits
        return self.layout.expand(table.index_select(0, index.flatten()).view(index.shape), bsm)

    def _gain(self, scaled: Tensor, y: Tensor, index: Tensor, bsm: Tensor) -> Tensor:
        """Return the slope of the reconstruction along the word length. Shape: [*, F, 512]."""
        direction = torch.where(index == IDWL_MAX, -1, 1)
        steps, levels = (self._levels(index + direction, bsm, scaled.dtype, without_bits=n) for n in (0, 1))
        other = (scaled * steps).round() / levels
        step, error = other - y, y - scaled
        norms = self.layout.sum(step.square(), bsm), self.layout.sum(error.square(), bsm)
        ratio = torch.where(norms[1] > 0, norms[0] / norms[1].clamp_min(torch.finfo(y.dtype).tiny), 0.0)
        gain = step + error * self.layout.expand(ratio / 2, bsm)
        return gain * self.layout.expand(direction.to(y.dtype), bsm)
