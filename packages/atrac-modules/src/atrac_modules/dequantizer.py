"""Dequantizer: turns quantized values back into coefficients.

    quantized, idsf, idwl, bsm ─[ dequantizer ]→ spectrum

Source: docs/format.md; [AES-3456].
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import (
    IDSF_MAX,
    IDWL_MAX,
    LEVELS,
    N_BFU_MAX,
    SCALE_FACTORS,
)
from atrac_modules.bfu import BfuLayout
from atrac_modules.scaler import scale_factor
from atrac_modules.stage import Stage, check_shapes, full_precision

_FULLNESS: Final = 5
"""Numbers that describe how close the values of a BFU come to the largest of its word length."""
_PIECE: Final = 128
"""Sound units that the correction works on at a time, to save memory."""


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

    Exactly the reference codec's, in this order of operations. Backward, idwl counts as a constant: only the quantizer
    knows the coefficients and so the effect of a longer word. Without bits, quantized and the result are 0, but the
    slope along quantized is that of levels = 1, which the quantizer's slope along idwl needs.

    Example:
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
        check_shapes(quantized=quantized, idsf=idsf, idwl=idwl, bsm=bsm)
        factors = scale_factor(idsf, self.scale_factors.to(quantized.dtype))
        inverse = self.inverse_levels.to(quantized.dtype).index_select(0, idwl.detach().long().flatten())
        steps = factors * inverse.view(idwl.shape)
        return self.layout.expand(steps, bsm) * quantized


@final
class NeuralDequantizer(Dequantizer):
    """spectrum = step x (quantized + correction), step and correction learned.

    step = scale factor of idsf / steps of idwl, both from learned tables. The correction, left out if `hidden` is 0, is
    a small network's estimate of the coefficient's difference from its quantized value, at most half a step (the
    quantizer rounds to the nearest). It sees the neighbouring coefficients in units of the step, the word length, the
    BFU and its values. It is an odd function, because a spectrum and its negative are equally likely.

    The number of scale factors and the word lengths are built in. Backward, idwl counts as a constant, as in
    `ReferenceDequantizer`.

    Args:
        hidden: width of the network's layers; 0 for no correction.
        neighbours: coefficients that the correction sees on either side.
        before: how much of the previous frame it sees: 0 nothing, 1 the same coefficient, 2 one more on either side, ….

    Example:
        >>> stage = NeuralDequantizer(hidden=8)
        >>> stage(torch.ones(1, 512), torch.full((1, 52), 63.0), torch.full((1, 52), 2.0), torch.zeros(1, 3)).shape
        torch.Size([1, 512])
    """

    scale: Tensor

    def __init__(self, hidden: int = 0, neighbours: int = 8, before: int = 0) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"hidden": hidden, "neighbours": neighbours, "before": before}
        self.layout = BfuLayout()
        self.levels = nn.Parameter(-10 + 3 * torch.randn(IDSF_MAX + 1))
        """log2 of each scale factor [64]."""
        self.steps = nn.Parameter(0.5 + torch.rand(IDWL_MAX + 1))
        """Steps from 0 to a scale factor, divided by 2 ** (word length - 1)."""
        self.add_table("scale", np.where(np.arange(IDWL_MAX + 1) > 0, LEVELS + 1.0, 1.0))
        self.correction = _Correction(hidden, neighbours, before) if hidden else None

    @full_precision
    def forward(self, quantized: Tensor, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Turn `quantized` into coefficients."""
        check_shapes(quantized=quantized, idsf=idsf, idwl=idwl, bsm=bsm)
        step = self.step(idsf, idwl, bsm)
        if self.correction is not None:
            quantized = quantized + self.correction(quantized, step, idwl, bsm, self.layout)
        return step * quantized

    def step(self, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Return the step between neighbouring values.

        Shape: idsf, idwl [*, F, 52], bsm [*, F, 3] -> [*, F, 512]
        """
        factors = scale_factor(idsf, self.levels.exp2().to(idsf.dtype))
        steps = (self.steps * self.scale).to(idsf.dtype).index_select(0, idwl.detach().long().flatten())
        return self.layout.expand(factors / steps.view(idwl.shape), bsm)


class _Correction(nn.Module):
    """Estimate of a coefficient's difference from its quantized value, in steps, -0.5 to 0.5.

    It sees inputs that change sign with the spectrum: the neighbouring coefficients, in this frame and in the one
    before, in units of the step; and inputs that do not: word length, BFU, and the magnitudes of the BFU's values. The
    scale factor is close to the largest coefficient of a BFU, so that a single large value is likely larger than its
    quantized value.
    """

    def __init__(self, hidden: int, neighbours: int, before: int) -> None:
        super().__init__()
        self.neighbours: Final = neighbours
        self.before: Final = before
        self.first = nn.Linear(2 * neighbours + 1 + max(0, 2 * before - 1), hidden, bias=False)
        self.by_word_length = nn.Parameter(0.1 * torch.randn(IDWL_MAX + 1, hidden))
        self.by_bfu = nn.Parameter(0.1 * torch.randn(2, N_BFU_MAX, hidden))
        self.by_fullness = nn.Linear(_FULLNESS, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, 1, bias=False)
        self.register_buffer("largest", torch.as_tensor(LEVELS, dtype=torch.float32), persistent=False)

    def forward(self, quantized: Tensor, step: Tensor, idwl: Tensor, bsm: Tensor, layout: BfuLayout) -> Tensor:
        """Shape: quantized, step [*, F, 512] -> [*, F, 512]."""
        spectrum = (quantized * step).detach()
        earlier = pad(spectrum, (0, 0, 1, 0))[..., :-1, :]
        tensors = (quantized, spectrum, earlier, step, idwl, bsm)
        inputs = [torch.split(x.reshape(-1, x.shape[-1]), _PIECE) for x in tensors]
        pieces = [self._correct(q, s, e, d, i, b, layout) for q, s, e, d, i, b in zip(*inputs)]
        return torch.cat(pieces).view_as(quantized)

    def _correct(
        self,
        quantized: Tensor,
        spectrum: Tensor,
        earlier: Tensor,
        step: Tensor,
        idwl: Tensor,
        bsm: Tensor,
        layout: BfuLayout,
    ) -> Tensor:
        around = [_around(spectrum, self.neighbours)]
        if self.before:
            around.append(_around(earlier, self.before - 1))
        # From a thousandth of a step to a thousand: compressed, with the sign kept.
        seen = torch.asinh(torch.cat(around, -1) / step.detach().unsqueeze(-1))
        idwl, bsm = idwl.detach(), bsm.detach()
        short = (layout.bsm_of_bfu(bsm) > 0).long()
        place = torch.arange(N_BFU_MAX, device=idwl.device)
        about = self.by_word_length[idwl.long()] + self.by_bfu[short, place]
        about = about + self.by_fullness(self._fullness(quantized.detach(), idwl, bsm, layout).to(about.dtype))
        about = layout.expand_rows(about, bsm)
        weighed = self.first(seen.to(self.first.weight.dtype))
        odd = self._hidden(about + weighed) - self._hidden(about - weighed)
        return 0.5 * torch.tanh(self.third(odd).squeeze(-1)).to(quantized.dtype)

    def _fullness(self, quantized: Tensor, idwl: Tensor, bsm: Tensor, layout: BfuLayout) -> Tensor:
        """Describe the magnitudes of each BFU's values.

        These are the largest and the mean magnitude divided by the largest of the word length, the shares of values at
        the largest magnitude and at most 1 below it, and the inverse of the number at the largest.

        Shape: quantized [n, 512], idwl [n, 52], bsm [n, 3] -> [n, 52, 5]
        """
        magnitude = quantized.abs()
        peak = layout.maximum(quantized, bsm)
        most = self.get_buffer("largest").to(magnitude.dtype)[idwl.long()]
        at_peak = layout.sum((magnitude == layout.expand(peak, bsm)).to(magnitude.dtype), bsm)
        near_peak = layout.sum((magnitude >= layout.expand(peak, bsm) - 1).to(magnitude.dtype), bsm)
        mean = layout.mean(magnitude, bsm)
        sizes = layout.get_buffer("sizes")
        return torch.stack([peak / most, mean / most, at_peak / sizes, near_peak / sizes, 1 / at_peak], -1)

    def _hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(x)))


def _around(spectrum: Tensor, reach: int) -> Tensor:
    """Return each coefficient and `reach` neighbours on either side. Shape: [n, 512] -> [n, 512, 2 reach + 1]."""
    return pad(spectrum, (reach, reach)).unfold(-1, 2 * reach + 1, 1)
