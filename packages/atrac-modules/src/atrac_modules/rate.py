"""Rate: the bits of a sound unit's values, and the budget for them."""

from __future__ import annotations

import torch
from torch import Tensor

from atrac_bitstream import tables as t


def word_length(idwl: Tensor) -> Tensor:
    """Return the word length in bits: 0 for index 0, else index + 1.

    Backward, the slope is the step to the next index: 2 from 0, then 1.

    Shape: [*] -> [*], in the dtype of idwl

    Example:
        >>> word_length(torch.tensor([0.0, 1.0, 15.0]))
        tensor([ 0.,  2., 16.])
    """
    has_bits = (idwl.detach() > 0).to(idwl.dtype)
    return idwl * (2 - has_bits) + has_bits


def used_value_bits(idwl: Tensor) -> Tensor:
    """Return the bits of the quantized values of a sound unit, at most `value_bits(n_bfu)`.

    Shape: idwl [*, 52] -> [*]
    Units: bits per sound unit
    """
    sizes = torch.as_tensor(t.BFU_SIZES, device=idwl.device).to(idwl.dtype)
    return (word_length(idwl) * sizes).sum(-1)


def value_bits(n_bfu: Tensor) -> Tensor:
    """Return the bits available for values; `atrac_bitstream.value_bits` on tensors.

    Shape: [*] -> [*]
    """
    return t.value_bits(0) - (t.value_bits(0) - t.value_bits(1)) * n_bfu
