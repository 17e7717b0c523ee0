"""Allocators that search for the least weighted error: weights by the ear model, or learned.

    spectrum, idsf, bsm ─[ allocator ]→ n_bfu, idwl, idsf

The role is described in `allocator.py`, the search in `rate_distortion.py`.
"""

from __future__ import annotations

from typing import Any, Final, final

import torch
from torch import Tensor

from atrac_bitstream import tables as t
from atrac_modules.allocator import Allocation, Allocator
from atrac_modules.bfu import BfuLayout
from atrac_modules.importance import Importance
from atrac_modules.psychoacoustics import EXPONENT, MaskingModel, check_exponent
from atrac_modules.rate_distortion import allocate_by_importance
from atrac_modules.stage import check_shapes, full_precision
from atrac_modules.water_filling import with_slope


@final
class RateDistortionAllocator(Allocator):
    """Searches number of BFUs, word lengths and scale factors for the least audible error in the budget.

        minimise sum over coefficients of error ** 2 / threshold ** exponent

    Thresholds are those of `MaskingModel`. Exponent 1 asks for noise at one distance below them in all bands of the
    ear, 0 for the least noise. The only gradient is that of the scale factors it was given, which it may change. The
    loudness is ignored.

    Args:
        exponent: 0 to 1.

    Raises: ValueError: the exponent is another.

    Example:
        >>> click = torch.zeros(1, 512)
        >>> click[0, 40] = 0.3
        >>> allocation = RateDistortionAllocator()(click, torch.full((1, 52), 58.0), torch.zeros(1, 3))
        >>> allocation.n_bfu, allocation.idwl[0].nonzero()[:, 0]  # only the BFU that is not empty has bits
        (tensor([20.]), tensor([6]))
    """

    def __init__(self, exponent: float = EXPONENT) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"exponent": exponent}
        self.exponent: Final = check_exponent(exponent)
        self.layout = BfuLayout()
        self.masking = MaskingModel()

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide the number of BFUs, their word lengths and scale factors."""
        check_shapes(spectrum=spectrum, idsf=idsf, bsm=bsm)
        inputs = spectrum.detach(), idsf.detach(), bsm.detach()
        n_bfu, idwl, offset = allocate_by_importance(*inputs, self.importance(inputs[0], inputs[2]))
        return Allocation(n_bfu, idwl, idsf + offset)

    def importance(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return log2 of the weight of a squared error in each BFU. Shape: [*, 512], [*, 3] -> [*, 52]."""
        if not self.exponent:
            return torch.zeros_like(spectrum[..., : t.N_BFU_MAX])
        return self.layout.mean(self.masking(spectrum, bsm) ** -self.exponent, bsm).log2()


@final
class NeuralRateDistortionAllocator(Allocator):
    """The search of `RateDistortionAllocator` with learned importances in place of the ear model's.

    Backward, the word length of each carried BFU follows half its importance minus the mean over those BFUs, weighted
    by their size: the budget is fixed. The loudness is ignored.

    Args:
        hidden: width of the network's layers, see `Importance`; 0 for none.

    Example:
        >>> spectrum, idsf = torch.rand(1, 512), torch.full((1, 52), 63.0)
        >>> NeuralRateDistortionAllocator()(spectrum, idsf, torch.zeros(1, 3)).idwl.shape
        torch.Size([1, 52])
    """

    def __init__(self, hidden: int = 0) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"hidden": hidden}
        self.importance = Importance(hidden)

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide the number of BFUs, their word lengths and scale factors."""
        check_shapes(spectrum=spectrum, idsf=idsf, bsm=bsm)
        inputs = spectrum.detach(), idsf.detach(), bsm.detach()
        importance = self.importance(inputs[0], inputs[2])
        n_bfu, idwl, offset = allocate_by_importance(*inputs, importance.detach())
        idwl = with_slope(importance / 2, torch.ones_like(importance, dtype=torch.bool), n_bfu, idwl)
        return Allocation(n_bfu, idwl, idsf + offset)
