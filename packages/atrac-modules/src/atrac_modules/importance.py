"""Importance: learned weights of the squared error in each BFU, which a rate-distortion search minimises.

    spectrum, bsm ─→ importance of each BFU

The formula is that of the ear model in `psychoacoustics.py`, by bands of the ear instead of coefficients, and all its
numbers are learned. An optional small network adds a correction.
"""

from __future__ import annotations

from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout
from atrac_modules.psychoacoustics import EXPONENT, N_BLOCKS, TONAL, MaskingModel, where_short

_SILENCE: Final = 2.0**-42
"""Least power that the network sees: that of the smallest scale factor."""
_LEAST: Final = -80.0
"""log2 of the least importance relative to the largest, so that float32 holds all of them."""
_LEAST_SPREAD: Final = 2.0**-100
_LARGEST_LOG2: Final = 50.0
"""Largest magnitude of learned logarithms before they are exponentiated, so that float32 holds the results."""
_LARGEST_CORRECTION: Final = 4.0
"""Largest magnitude of the network's correction, in log2."""


@final
class Importance(nn.Module):
    """log2 of the weight of a squared error in each BFU, up to a constant for each sound unit.

        threshold[p]  = sum_j 2 ** (spread[p, j] - tonal[j] tonality[j]) power[j] + 2 ** quiet[p]
        importance[i] = log2(mean over the bands p of BFU i of threshold[p] ** -exponent[p]) + correction[i]

    Power and tonality of each band of the ear are those of `MaskingModel`; the correction is that of a network which
    sees them and `bsm`. The importance of a BFU with short blocks falls with its block's share of the frame's energy,
    to the power `modulation`. Untrained, the importances are those of the ear model.

    Args:
        hidden: width of the network's two layers; 0 leaves the network out.

    Shape: spectrum [*, 512], bsm [*, 3] -> [*, 52]

    Example:
        >>> Importance()(torch.rand(2, 512), torch.zeros(2, 3)).shape
        torch.Size([2, 52])
    """

    share: Tensor
    block: Tensor

    def __init__(self, hidden: int = 0) -> None:
        super().__init__()
        self.layout = BfuLayout()
        self.ear = MaskingModel()
        share = _share(self.ear.get_buffer("grouping"))
        n_bands = share.shape[-1]
        self.register_buffer("share", share, persistent=False)
        self.register_buffer("block", torch.from_numpy(_block_of_bfu()), persistent=False)
        spread = self.ear.get_buffer("spread")[None]
        self.spread = nn.Parameter(spread.transpose(1, 2).clamp_min(_LEAST_SPREAD).log2().contiguous())
        """log2 of the share of each band's power that is masked in each other band [1, masked, masking]."""
        self.quiet = nn.Parameter(self.ear.get_buffer("quiet").log2())
        """log2 of the energy that is just heard in each band."""
        self.tonal = nn.Parameter(torch.full((n_bands,), TONAL))
        """log2 of the ratio of what noise and what a tone of the same power mask."""
        self.exponent = nn.Parameter(torch.full((n_bands,), EXPONENT))
        self.modulation = nn.Parameter(torch.full((t.N_BANDS,), EXPONENT))
        self.network: nn.Sequential | None = None
        if hidden:
            last = nn.Linear(hidden, t.N_BFU_MAX)
            with torch.no_grad():  # hardly any correction before training
                last.weight.mul_(0.01)
                last.bias.zero_()
            first = nn.Linear(t.N_BANDS + 2 * n_bands, hidden)
            self.network = nn.Sequential(first, nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last)

    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return the importance of each BFU."""
        dtype = spectrum.dtype
        power, tonality = self.ear.bands(self.ear.power(spectrum, bsm))
        spread = self.spread.clamp_max(_LARGEST_LOG2).exp2().transpose(1, 2).to(dtype)[0]
        masked = (power * torch.exp2(-self.tonal.clamp(-_LARGEST_LOG2, _LARGEST_LOG2).to(dtype) * tonality)) @ spread
        quiet = self.quiet.clamp(-_LARGEST_LOG2, _LARGEST_LOG2).exp2().to(dtype)
        importance = self._of_bfus(-self.exponent.to(dtype) * (masked + quiet).log2(), spectrum, bsm)
        if self.network is None:
            return importance
        features = torch.cat([(bsm > 0).to(dtype), power.clamp_min(_SILENCE).log2() / 10 + 2, tonality], -1)
        correction: Tensor = self.network(features.to(self.quiet.dtype)).to(dtype)
        return importance + _LARGEST_CORRECTION * torch.tanh(correction / _LARGEST_CORRECTION)

    def _of_bfus(self, level: Tensor, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Average the weights of the bands in each BFU.

        Args:
            level: log2 of the weight of each band.

        Shape: level [*, n] -> [*, 52], log2 too
        """
        highest = level.amax(-1, keepdim=True)
        weight = torch.exp2((level - highest).clamp_min(_LEAST))
        long, short = self.share.to(level.dtype).unbind()

        def of_short(rows: Any) -> Tensor:
            block = self.ear.envelope(spectrum[rows]).log2()[..., self.block]
            modulation = self.modulation.to(level.dtype)[self.layout.get_buffer("band_of_bfu")]
            return (weight[rows] @ short.T).log2() + highest[rows] - modulation * block

        return where_short(bsm, (weight @ long.T).log2() + highest, of_short)


def _share(grouping: Tensor) -> Tensor:
    """Return the share of each BFU, with long and with short blocks, that lies in each band of the ear.

    Shape: grouping [512, n] -> [2, 52, n]
    """
    rows = []
    for short in (False, True):
        for bfu, size in enumerate(t.BFU_SIZES.tolist()):
            band = int(t.BFU_BANDS[bfu])
            first, n_blocks = t.BANDS[band].start, N_BLOCKS[band] if short else 1
            start = (int(t.BFU_STARTS_SHORT[bfu]) - first) % t.SHORT_SIZE if short else int(t.BFU_OFFSETS[bfu]) - first
            rows.append(grouping[first + n_blocks * start :][: n_blocks * size].mean(0))
    return torch.stack(rows).view(2, t.N_BFU_MAX, -1)


def _block_of_bfu() -> NDArray[np.int64]:
    """Return the index, 0 to 15, of the short block that holds each BFU [52]."""
    before = np.cumsum((0, *N_BLOCKS))
    first = np.array([band.start for band in t.BANDS])
    blocks: NDArray[np.int64] = (t.BFU_STARTS_SHORT - first[t.BFU_BANDS]) // t.SHORT_SIZE + before[t.BFU_BANDS]
    return blocks
