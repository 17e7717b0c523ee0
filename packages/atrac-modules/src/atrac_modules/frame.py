"""FrameBatch: the fields of the sound units of any number of frames and channels, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class FrameBatch:
    """The five fields of many sound units, as tensors.

    They hold whole numbers, in a floating dtype where they may carry gradients. BFUs that are not carried have idwl
    and idsf 0, and their coefficients are 0.

    Args:
        bsm: block size mode of each band: 0 long; 2, 2, 3 short.
        n_bfu: number of BFUs carried.
        idwl: word length index of each BFU, 0..15.
        idsf: scale factor index of each BFU, 0..63.
        quantized: in spectrum order, magnitude at most 2 ** (word length - 1) - 1.

    Shape: bsm [*, F, 3], n_bfu [*, F], idwl [*, F, 52], idsf [*, F, 52], quantized [*, F, 512]
    """

    bsm: Tensor
    n_bfu: Tensor
    idwl: Tensor
    idsf: Tensor
    quantized: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> FrameBatch:
        """Return a batch with `function` applied to each field.

        Example:
            >>> import torch
            >>> sizes = ((4, 3), (4,), (4, 52), (4, 52), (4, 512))
            >>> FrameBatch(*map(torch.zeros, sizes)).map(lambda field: field[:2]).quantized.shape
            torch.Size([2, 512])
        """
        return FrameBatch(*map(function, self))

    def __iter__(self) -> Iterator[Tensor]:
        return (getattr(self, field.name) for field in fields(self))
