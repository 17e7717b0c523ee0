"""Importance: what an error costs in each BFU, learned.

    spectrum, idsf, bsm, loudness ─→ importance of each BFU

The form is that of the ear model in `psychoacoustics.py`, by band instead of by coefficient, with all its numbers
learned; a small network adds what the form cannot say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout, reduce_bfus
from atrac_modules.loudness import START
from atrac_modules.psychoacoustics import EXPONENT, N_BLOCKS, TONAL, MaskingModel, where_short

_SILENCE: Final = 2.0**-42
"""Energy of the smallest scale factor, which stands for silence."""
_LEAST: Final = -80.0
"""log2 of the least importance relative to the largest; float32 ends there."""
_NOTHING: Final = 2.0**-100
_STEEPEST: Final = 50.0
"""log2 of what may be masked elsewhere, of a threshold and of its inverse; beyond it float32 would end."""
_FURTHEST: Final = 4.0
"""What the network adds at most, either way."""


@final
class Importance(nn.Module):
    """log2 of what the square of an error costs in each BFU, up to a constant of the sound unit.

        threshold[p]  = sum_j spread[p, j] masker[j] + quiet[p]
        importance[i] = log2(mean over the bands p of BFU i of threshold[p] ** -exponent[p]) + network(features)[i]

    Bands are those of the ear. In short blocks the importance follows their share of the frame's energy.

    Args:
        hidden: width of the network's two layers; 0 leaves the network out.
        features: what is known. `idsf`: scale factors; `energy`: that of each BFU; `entropy`: the bits that hold its
            coefficients over the threshold; `loudness`: of the sound so far; `spectrum`: power and tonality of each
            band, as the ear model has them. Maskers are the bands if `spectrum` is there, else the BFUs, by their
            energy or by their scale factors.

    Shape:  spectrum [*, 512], idsf [*, 52], bsm [*, 3], loudness [*] or None -> [*, 52]
    Raises: ValueError: features has another name.

    Example:
        >>> Importance()(torch.rand(2, 512), torch.full((2, 52), 60.0), torch.zeros(2, 3)).shape
        torch.Size([2, 52])
    """

    FEATURES: ClassVar = ("idsf", "energy", "entropy", "loudness", "spectrum")
    share: Tensor
    sizes: Tensor

    def __init__(self, hidden: int = 64, features: Sequence[str] = FEATURES) -> None:
        super().__init__()
        if unknown := [name for name in features if name not in self.FEATURES]:
            raise ValueError(f"features: {', '.join(unknown)}, allowed {', '.join(self.FEATURES)}")
        self.features: Final = tuple(features)
        self.layout = BfuLayout()
        self.ear = MaskingModel()
        share = _share(self.ear.get_buffer("grouping"))
        n_bands = share.shape[-1]
        self.register_buffer("share", share, persistent=False)
        self.register_buffer("sizes", torch.from_numpy(t.BFU_SIZES).to(share), persistent=False)
        self.register_buffer("block", torch.from_numpy(_block_of_bfu()), persistent=False)
        spread = self.ear.get_buffer("spread")[None]
        if "spectrum" not in features:
            spread = share @ spread
        self.spread = nn.Parameter(spread.transpose(1, 2).clamp_min(_NOTHING).log2().contiguous())
        """log2 of what maskers, be they bands or BFUs with long and with short blocks, hide in each band."""
        self.quiet = nn.Parameter(self.ear.get_buffer("quiet").log2())
        """log2 of the energy that is just heard in each band."""
        if "spectrum" in features:
            self.tonal = nn.Parameter(torch.full((n_bands,), TONAL))
            """log2 of how much less a tone masks than noise does."""
        self.exponent = nn.Parameter(torch.full((n_bands,), EXPONENT))
        self.modulation = nn.Parameter(torch.full((t.N_BANDS,), EXPONENT))
        """Power of a short block's part in the frame's energy that its importance falls with."""
        self.network: nn.Sequential | None = None
        if hidden:
            seen = {"loudness": 1, "spectrum": 2 * n_bands}
            width = sum(seen.get(name, t.N_BFU_MAX) for name in features) + t.N_BANDS
            last = nn.Linear(hidden, t.N_BFU_MAX)
            with torch.no_grad():  # next to nothing before it is trained
                last.weight.mul_(0.01)
                last.bias.zero_()
            layers = nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last
            self.network = nn.Sequential(*layers)

    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Tensor:
        """Return the importance of each BFU."""
        dtype = idsf.dtype
        mode = self.layout.bsm_of_bfu(bsm)
        if "energy" in self.features or "entropy" in self.features:
            square = self.layout.group(spectrum, bsm).square()
        if "energy" in self.features:
            energy = reduce_bfus(square, lambda x: x.sum(-1)) * torch.exp2(-mode)
        spread = self.spread.clamp_max(_STEEPEST).exp2().transpose(1, 2).to(dtype)
        if "spectrum" in self.features:
            power, tonality = self.ear.bands(self.ear.power(spectrum, bsm))
            masked = (power * torch.exp2(-self.tonal.clamp(-_STEEPEST, _STEEPEST).to(dtype) * tonality)) @ spread[0]
        else:
            masker = energy if "energy" in self.features else torch.exp2(2 * (idsf / 3 - 22) - mode) * self.sizes
            masked = (masker * (mode == 0)) @ spread[0] + (masker * (mode > 0)) @ spread[1]
        level = -self.exponent.to(dtype) * (masked + self.quiet.clamp(-_STEEPEST, _STEEPEST).exp2().to(dtype)).log2()
        importance = self._of_bfus(level, spectrum, bsm)
        if self.network is None:
            return importance
        seen = [(bsm > 0).to(dtype)]
        if "idsf" in self.features:
            seen.append(idsf / 32 - 1)
        if "energy" in self.features:
            seen.append((energy / self.sizes).clamp_min(_SILENCE).log2() / 10 + 2)
        if "entropy" in self.features:
            over = torch.exp2((importance / EXPONENT - mode).clamp_max(_STEEPEST))
            over = over[..., self.layout.get_buffer("bfu_of_value")] * square
            seen.append(reduce_bfus(torch.log2(1 + over), lambda x: x.mean(-1)) / 8)
        if "loudness" in self.features:
            known = torch.full_like(idsf[..., 0], START) if loudness is None else loudness.to(dtype)
            seen.append(known.clamp_min(_SILENCE).log2()[..., None] / 10)
        if "spectrum" in self.features:
            seen += [power.clamp_min(_SILENCE).log2() / 10 + 2, tonality]
        added = self.network(torch.cat(seen, -1).to(self.quiet.dtype)).to(dtype)
        return importance + _FURTHEST * torch.tanh(added / _FURTHEST)

    def _of_bfus(self, level: Tensor, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return log2 of the mean over the bands in each BFU. Shape: level [*, n] -> [*, 52]."""
        highest = level.amax(-1, keepdim=True)
        weight = torch.exp2((level - highest).clamp_min(_LEAST))
        long, short = self.share.to(level.dtype)

        def of_short(rows: Any) -> Tensor:
            part = self.ear.envelope(spectrum[rows]).log2()[..., self.get_buffer("block")]
            modulation = self.modulation.to(level.dtype)[self.layout.get_buffer("band_of_bfu")]
            return (weight[rows] @ short.T).log2() + highest[rows] - modulation * part

        return where_short(bsm, (weight @ long.T).log2() + highest, of_short)


def _share(grouping: Tensor) -> Tensor:
    """Return how much of each BFU, with long and with short blocks, lies in each band.

    Shape: [512, n] -> [2, 52, n]
    """
    rows = []
    for short in (False, True):
        for bfu, size in enumerate(t.BFU_SIZES.tolist()):
            band = int(t.BFU_BANDS[bfu])
            first, n_blocks = t.BANDS[band].start, N_BLOCKS[band] if short else 1
            start = (int(t.BFU_STARTS_SHORT[bfu]) - first) % t.SHORT_SIZE if short else int(t.BFU_OFFSETS[bfu]) - first
            rows.append(grouping[first + n_blocks * start :][: n_blocks * size].mean(0))
    return torch.stack(rows).unflatten(0, (2, -1))


def _block_of_bfu() -> np.ndarray:
    """Return which of the 16 short blocks each BFU lies in [52]."""
    before = np.cumsum((0, *N_BLOCKS))
    first = np.array([band.start for band in t.BANDS])
    return (t.BFU_STARTS_SHORT - first[t.BFU_BANDS]) // t.SHORT_SIZE + before[t.BFU_BANDS]
