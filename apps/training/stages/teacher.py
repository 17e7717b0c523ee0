"""What several objectives draw at random."""

from __future__ import annotations

import torch
from torch import Tensor

from atrac_bitstream.tables import BSM_SHORT


def draw_modes(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw block size modes, long or short with equal chances. Shape: [*, 3]."""
    return torch.randint(2, shape, generator=generator) * torch.tensor(BSM_SHORT)
