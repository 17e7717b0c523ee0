"""Importance: what an error costs in each BFU, learned.

    spectrum, idsf, bsm, loudness ─→ importance of each BFU

The form is an ear model's, every number of it is learned, and a small network adds what the form cannot say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout, bfu_centres, reduce_bfus

_SILENCE: Final = 2.0**-42
"""Energy of the smallest scale factor, which stands for silence."""
_STEEPEST: Final = 60.0
"""log2 of what one BFU may mask in another; beyond it float32 would end."""
_FURTHEST: Final = 4.0
"""What the network adds at most, either way."""


@final
class Importance(nn.Module):
    """log2 of what the square of an error costs in each BFU, up to a constant of the sound unit.

        mask[i]       = sum_j spread[i, j] energy[j]
        importance[i] = table[i] - exponent[i] log2(mask[i] + quiet[i]) + network(features)[i]

    Where these numbers are those of long or short blocks, the BFU's own band says which.

    Args:
        hidden: width of the network's two layers; 0 leaves the network out.
        features: what is known of each BFU. `idsf`: the scale factor; `energy`: the energy (without it, the largest
            coefficient stands in for it); `entropy`: the bits that hold its coefficients over the mask; `loudness`: of
            the sound so far.

    Shape:  spectrum [*, 512], idsf [*, 52], bsm [*, 3], loudness [*] or None -> [*, 52]
    Raises: ValueError: features has another name.

    Example:
        >>> Importance()(torch.rand(2, 512), torch.full((2, 52), 60.0), torch.zeros(2, 3)).shape
        torch.Size([2, 52])
    """

    FEATURES: ClassVar = ("idsf", "energy", "entropy", "loudness")
    sizes: Tensor

    def __init__(self, hidden: int = 64, features: Sequence[str] = FEATURES) -> None:
        super().__init__()
        if unknown := [name for name in features if name not in self.FEATURES]:
            raise ValueError(f"features: {', '.join(unknown)}, allowed {', '.join(self.FEATURES)}")
        self.features: Final = tuple(features)
        self.layout = BfuLayout()
        dtype = torch.get_default_dtype()
        self.register_buffer("sizes", torch.from_numpy(t.BFU_SIZES).to(dtype), persistent=False)
        spread, quiet = zip(*(_ear(bfu_centres(short)) for short in (False, True)))
        self.spread = nn.Parameter(torch.stack(spread).to(dtype))
        """log2 of what a BFU masks in another: long or short, masked BFU, masking BFU."""
        self.quiet = nn.Parameter(torch.stack(quiet).to(dtype))
        """log2 of the energy that is just heard in quiet, long or short."""
        self.exponent = nn.Parameter(torch.full((2, t.N_BFU_MAX), 0.75))
        self.table = nn.Parameter(torch.zeros(2, t.N_BFU_MAX))
        self.network: nn.Sequential | None = None
        if hidden:
            per_unit = "loudness" in features
            seen = t.N_BFU_MAX * (len(features) - per_unit) + per_unit + t.N_BANDS
            last = nn.Linear(hidden, t.N_BFU_MAX)
            with torch.no_grad():  # next to nothing before it is trained
                last.weight.mul_(0.01)
                last.bias.zero_()
            self.network = nn.Sequential(nn.Linear(seen, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last)

    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Tensor:
        """Return the importance of each BFU."""
        dtype = idsf.dtype
        short = self.layout.bsm_of_bfu(bsm)
        peak = torch.exp2(2 * (idsf / 3 - 21))
        energy = peak / 4
        if "energy" in self.features or "entropy" in self.features:
            square = self.layout.group(spectrum, bsm).square()
        if "energy" in self.features:
            energy = reduce_bfus(square, lambda x: x.sum(-1)) / self.sizes.to(dtype)
        energy = energy * torch.exp2(-short)  # of a coefficient of a long block

        def own(parameter: Tensor) -> Tensor:
            return torch.where(short > 0, parameter[1], parameter[0]).to(dtype)

        long_mask, short_mask = (energy @ spread.clamp_max(_STEEPEST).exp2().T.to(dtype) for spread in self.spread)
        mask = torch.where(short > 0, short_mask, long_mask).clamp_min(_SILENCE).log2()
        mask = torch.logaddexp2(mask, own(self.quiet))
        importance = own(self.table) - own(self.exponent) * mask
        if self.network is None:
            return importance
        seen = [(bsm > 0).to(dtype)]
        for name in self.features:
            if name == "idsf":
                seen.append(idsf / 32 - 1)
            elif name == "energy":
                seen.append(energy.clamp_min(_SILENCE).log2() / 10 + 2)
            elif name == "entropy":
                over = square * torch.exp2(-mask - short).index_select(-1, self.layout.get_buffer("bfu_of_value"))
                seen.append(reduce_bfus(torch.log2(1 + over), lambda x: x.mean(-1)) / 8)
            else:
                known = torch.full_like(idsf[..., 0], np.nan) if loudness is None else loudness.to(dtype)
                seen.append(known.nan_to_num(1.0).clamp_min(_SILENCE).log2()[..., None] / 10)
        added = self.network(torch.cat(seen, -1).to(self.table.dtype)).to(dtype)
        return importance + _FURTHEST * torch.tanh(added / _FURTHEST)


def _ear(hertz: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return log2 of spreading [52, 52] and of the threshold in quiet [52] that `psychoacoustics.py` has."""
    bark = 7 * np.arcsinh(hertz / 650)
    distance = bark[:, None] - bark  # of the masked from the masking
    decibel = -np.where(distance > 0, 10 * distance, -25 * distance)
    k = hertz / 1000
    quiet = 3.64 * k**-0.8 - 6.5 * np.exp(-0.6 * (k - 3.3) ** 2) + 0.001 * k**3.6 - 94
    per_octave = 10 * np.log10(2)
    return torch.from_numpy(decibel / per_octave), torch.from_numpy(quiet / per_octave - 2)
