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
    BFU_SIZES,
    FRAME_SAMPLES,
    IDSF_MAX,
    IDWL_MAX,
    LEVELS,
    N_BANDS,
    N_BFU_MAX,
    SCALE_FACTORS,
)
from atrac_modules.bfu import BfuLayout
from atrac_modules.scaler import scale_factor
from atrac_modules.stage import Stage, check_shape, full_precision

_FULLNESS: Final = 5
_PIECE: Final = 128
"""Sound units that the correction works on at a time, so that it takes little memory."""


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
        _check_shapes(quantized, idsf, idwl, bsm)
        factors = scale_factor(idsf, self.scale_factors.to(quantized.dtype))
        inverse = self.inverse_levels.to(quantized.dtype).index_select(0, idwl.detach().long().flatten())
        steps = factors * inverse.view(idwl.shape)
        return self.layout.expand(steps, bsm) * quantized


@final
class NeuralDequantizer(Dequantizer):
    """spectrum = step x (quantized + correction), step and correction learned.

    step = scale factor of idsf / steps of idwl, both from learned tables. The correction, which is left out if
    `hidden` is 0, is what a small network expects a coefficient to lie beside its quantized value, at most half a step
    (the quantizer rounds to the nearest): it sees the coefficients around it in units of the step, the word length, the
    BFU and its values. It is odd, as a spectrum turned upside down is as likely.

    That there are 64 scale factors and 15 word lengths with so many bits is built in. Backward, idwl counts as a
    constant, as in `ReferenceDequantizer`.

    Args:
        hidden: width of the network's layers; 0 for no correction.
        neighbours: coefficients that it sees on either side.
        before: coefficients that it sees in the frame before: 0 none, 1 the same, 2 one more on either side, ….

    Example:
        >>> import torch
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
        """Steps from 0 to a scale factor, as a share of 2 ** (word length - 1)."""
        self.add_table("scale", np.where(np.arange(IDWL_MAX + 1) > 0, LEVELS + 1.0, 1.0))
        self.correction = _Correction(hidden, neighbours, before) if hidden else None

    @full_precision
    def forward(self, quantized: Tensor, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Turn `quantized` into coefficients."""
        _check_shapes(quantized, idsf, idwl, bsm)
        step = self.step(idsf, idwl, bsm)
        if self.correction is not None:
            quantized = quantized + self.correction(quantized, step, idwl, bsm, self.layout)
        return step * quantized

    def step(self, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> Tensor:
        """Return the distance of neighbouring values.

        Shape: idsf, idwl [*, F, 52], bsm [*, F, 3] -> [*, F, 512]
        """
        factors = scale_factor(idsf, self.levels.exp2().to(idsf.dtype))
        steps = (self.steps * self.scale).to(idsf.dtype).index_select(0, idwl.detach().long().flatten())
        return self.layout.expand(factors / steps.view(idwl.shape), bsm)


class _Correction(nn.Module):
    """What lies between a coefficient and its quantized value, in steps, -0.5 .. 0.5.

    It sees values that turn around with the spectrum: the coefficients around, in this frame and in the one before, in
    units of the step; and some that do not: word length, place, and how full the BFU is. The scale factor is next to
    the largest coefficient of a BFU, so where only one value is large, it is larger than it says.
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
        self.register_buffer("sizes", torch.as_tensor(BFU_SIZES, dtype=torch.float32), persistent=False)
        self.register_buffer("largest", torch.as_tensor(LEVELS, dtype=torch.float32), persistent=False)

    def forward(self, quantized: Tensor, step: Tensor, idwl: Tensor, bsm: Tensor, layout: BfuLayout) -> Tensor:
        """Shape: quantized, step [*, F, 512] -> [*, F, 512]."""
        spectrum = (quantized * step).detach()
        earlier = pad(spectrum, (0, 0, 1, 0))[..., :-1, :]
        inputs = [x.reshape(-1, x.shape[-1]).split(_PIECE) for x in (quantized, spectrum, earlier, step, idwl, bsm)]
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
        """Return of each BFU its largest and mean magnitude in the largest ones, the share of values at the largest
        and one below it, and one over the number of the former. Shape: [n, 512], idwl [n, 52] -> [n, 52, 5].
        """
        magnitude = quantized.abs()
        peak = layout.maximum(quantized, bsm)
        most = self.get_buffer("largest").to(magnitude.dtype)[idwl.long()]
        sizes = self.get_buffer("sizes").to(magnitude.dtype)
        at_peak = layout.sum((magnitude == layout.expand(peak, bsm)).to(magnitude.dtype), bsm)
        near_peak = layout.sum((magnitude >= layout.expand(peak, bsm) - 1).to(magnitude.dtype), bsm)
        mean = layout.sum(magnitude, bsm) / sizes
        return torch.stack([peak / most, mean / most, at_peak / sizes, near_peak / sizes, 1 / at_peak], -1)

    def _hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(x)))


def _around(spectrum: Tensor, reach: int) -> Tensor:
    """Return the coefficients up to `reach` on either side. Shape: [n, 512] -> [n, 512, 2 reach + 1]."""
    return pad(spectrum, (reach, reach)).unfold(-1, 2 * reach + 1, 1)


def _check_shapes(quantized: Tensor, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> None:
    check_shape("quantized", quantized, -1, FRAME_SAMPLES)
    check_shape("idsf", idsf, -1, N_BFU_MAX)
    check_shape("idwl", idwl, -1, N_BFU_MAX)
    check_shape("bsm", bsm, -1, N_BANDS)
