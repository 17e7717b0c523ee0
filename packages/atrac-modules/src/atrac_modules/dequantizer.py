"""Dequantizer: turns quantized values back into coefficients.

    quantized, idsf, idwl, bsm ─[ dequantizer ]→ spectrum

Source: docs/format.md; [AES-3456].
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

from torch import Tensor

from atrac_bitstream.tables import FRAME_SAMPLES, LEVELS, N_BANDS, N_BFU_MAX, SCALE_FACTORS
from atrac_modules.bfu import BfuLayout
from atrac_modules.scaler import scale_factor
from atrac_modules.stage import Stage, check_shape, full_precision


class Dequantizer(Stage):
    """Turns quantized values into coefficients.

    Shape:  quantized [*, F, 512], idsf [*, F, 52], idwl [*, F, 52], bsm [*, F, 3] -> spectrum [*, F, 512]
    Dtype:  that of quantized, float32 or float64
    Raises: ShapeError: the last dimensions are others.
    """

    @abstractmethod
    def forward(self, quantized: Tensor, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Turn `quantized` into coefficients."""


@final
class ReferenceDequantizer(Dequantizer):
    """spectrum = scale factor x (1 / levels) x quantized, levels = 2 ** (word length - 1) - 1.

    Exactly the reference codec's, in this order of operations. Backward, idwl counts as a constant: what a longer
    word would gain only the quantizer knows, whose input it has seen. Where there are no bits quantized is 0, and so
    is the result, but its slope is that of levels = 1, for the same purpose.

    Example:
        >>> import torch
        >>> spectrum = ReferenceDequantizer()(
        ...     torch.ones(1, 512), torch.full((1, 52), 63.0), torch.full((1, 52), 2.0), torch.zeros(1, 3))
        >>> round(spectrum[0, 0].item(), 4)
        0.3333
    """

    scale_factors: Tensor
    inverse_levels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layout = BfuLayout()
        self.add_table("scale_factors", SCALE_FACTORS)
        self.add_table("inverse_levels", 1 / LEVELS)

    @full_precision
    def forward(self, quantized: Tensor, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Turn `quantized` into coefficients."""
        check_shape("quantized", quantized, -1, FRAME_SAMPLES)
        check_shape("idsf", idsf, -1, N_BFU_MAX)
        check_shape("idwl", idwl, -1, N_BFU_MAX)
        check_shape("bsm", bsm, -1, N_BANDS)
        factors = scale_factor(idsf, self.scale_factors.to(quantized.dtype))
        inverse = self.inverse_levels.to(quantized.dtype).index_select(0, idwl.detach().long().flatten())
        steps = factors * inverse.view(idwl.shape)
        return self.layout.expand(steps, bsm) * quantized
