"""Allocator: decides how many bits each BFU receives.

    spectrum, idsf, bsm, loudness ─[ allocator ]→ n_bfu, idwl, idsf

The format leaves this to the encoder, and encoders differ most here. The allocators that search for the least weighted
error are in `allocation_search.py`. Source: [atracdenc] atrac1_bitalloc.cpp, atrac_psy_common.cpp.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout
from atrac_modules.hearing_threshold import hearing_threshold
from atrac_modules.loudness import START
from atrac_modules.ordered_float import running_sum, sqrt32
from atrac_modules.stage import Stage, WithTables, check_shapes, full_precision
from atrac_modules.water_filling import RANK_LIMIT, allocate, ranked_bfus, water_fill

_FIXED_LONG: Final = np.repeat([7, 6, 5, 4, 3, 2, 1, 0], [3, 19, 13, 3, 6, 1, 4, 3])
"""Desired word length of each BFU in noise-like frames, with long blocks [52] …"""
_FIXED_SHORT: Final = np.repeat([6, 5, 4, 0], [24, 12, 8, 8])
"""… and with short blocks [52]."""
_BOOSTED: Final = (18, 19, 20, 21, 22, 32, 33, 34, 35, 36, 37, 38)
"""BFUs that receive spare bits, in this order."""
_SPREAD_MAX: Final = 14.0
_IDSF_PER_BIT: Final = 3.2


@dataclass(frozen=True)
class Allocation:
    """Result of an allocator. Shape: n_bfu [*, F], idwl [*, F, 52], idsf [*, F, 52]."""

    n_bfu: Tensor
    idwl: Tensor
    idsf: Tensor


class Allocator(Stage):
    """Decides the number of BFUs and their word lengths, and may change their scale factors.

    Shape:  spectrum [*, F, 512], idsf [*, F, 52], bsm [*, F, 3], loudness [*, F] or None
            -> n_bfu [*, F], idwl [*, F, 52], idsf [*, F, 52]
    Dtype:  that of spectrum, whole numbers
    Raises: ShapeError: the last dimensions are others.

    The values fit: `used_value_bits(idwl) <= value_bits(n_bfu)` for every sound unit, and BFUs that are not carried
    have no bits. An allocator that keeps the scale factors returns the very tensor it was given. Allocators that do not
    use the loudness ignore the argument.
    """

    @abstractmethod
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide the number of BFUs, their word lengths and scale factors."""


class _ReferenceRules(WithTables):
    """The reference codec's desired word lengths, and its rule for inaudible BFUs."""

    def __init__(self) -> None:
        super().__init__()
        self.layout = BfuLayout()
        self.add_table("fixed_long", _FIXED_LONG)
        self.add_table("fixed_short", _FIXED_SHORT)
        self.add_table("threshold", hearing_threshold())

    def desired(self, idsf: Tensor, spread: Tensor, bsm: Tensor) -> Tensor:
        """Return spread x idsf / 3.2 + (1 - spread) x table. Shape: [*, 52], [*, 1], [*, 3] -> [*, 52]."""
        short = self.layout.bsm_of_bfu(bsm.detach()) > 0
        fixed = torch.where(short, self.get_buffer("fixed_short"), self.get_buffer("fixed_long"))
        return spread * (idsf / _IDSF_PER_BIT) + (1 - spread) * fixed

    def audible(self, spectrum: Tensor, bsm: Tensor, loudness: Tensor | None) -> Tensor:
        """Return the BFUs with short blocks or a coefficient above the threshold. Shape: [*, 512] -> bool [*, 52]."""
        scale = torch.ones_like(spectrum[..., 0]) if loudness is None else loudness.to(spectrum.dtype) / START
        threshold = self.get_buffer("threshold").to(spectrum.dtype) * scale[..., None]
        quiet = self.layout.maximum(spectrum.detach(), bsm).square() < threshold
        return ~quiet | (self.layout.bsm_of_bfu(bsm.detach()) > 0)


@final
class ReferenceAllocator(Allocator):
    """The reference codec's allocation, all sound units at once.

    Desired word length = spread x idsf / 3.2 + (1 - spread) x table, where spread = min(std of the 52 idsf, 14) / 14
    is high for tones and low for noise. A BFU with long blocks wholly below the hearing threshold, which is scaled by
    the loudness, receives nothing. `water_fill` makes the word lengths fit and states the slope; spare bits go to 12
    BFUs around the middle.

    Example:
        >>> allocation = ReferenceAllocator()(torch.rand(1, 512), torch.full((1, 52), 60.0), torch.zeros(1, 3))
        >>> allocation.n_bfu, allocation.idwl[0, :4]
        (tensor([40.]), tensor([4., 4., 4., 3.]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.rules = _ReferenceRules()
        rank = np.full(t.N_BFU_MAX, RANK_LIMIT)
        rank[list(_BOOSTED)] = np.arange(len(_BOOSTED)) / len(_BOOSTED)
        self.add_table("rank", rank)

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide the number of BFUs and their word lengths."""
        check_shapes(spectrum=spectrum, idsf=idsf, bsm=bsm)
        index = idsf.double()  # desired word lengths often lie just above or below a whole number
        variance = (index - index.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
        # The square root's slope is infinite at 0, where all BFUs are alike and none should change.
        positive = variance > 0
        deviation = torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)
        desired = self.rules.desired(index, deviation.clamp_max(_SPREAD_MAX) / _SPREAD_MAX, bsm)
        n_bfu, idwl = water_fill(desired, self.rules.audible(spectrum, bsm, loudness), self.get_buffer("rank"))
        return Allocation(n_bfu.to(idsf.dtype), idwl.to(idsf.dtype), idsf)


@final
class BitExactAllocator(Allocator):
    """The same allocation with sums in the reference codec's order of float32 operations, the rest in float64.

    No gradient. Dtype: float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rules = _ReferenceRules()

    @full_precision
    @torch.no_grad()
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide the number of BFUs and their word lengths."""
        check_shapes(spectrum=spectrum, idsf=idsf, bsm=bsm)
        mean = idsf.sum(-1, keepdim=True) / t.N_BFU_MAX  # whole numbers: exact in any order
        deviation = sqrt32(running_sum((idsf - mean).square()) / t.N_BFU_MAX)
        spread = (deviation.clamp_max(_SPREAD_MAX).double() / _SPREAD_MAX).float().double()[..., None]
        desired = self.rules.desired(idsf.double(), spread, bsm)
        audible = self.rules.audible(spectrum.float(), bsm, loudness)
        n_bfu, idwl = allocate(desired.where(audible, -torch.inf), _BOOSTED)
        return Allocation(n_bfu.float(), idwl.float(), idsf)


@final
class NeuralAllocator(Allocator):
    """Learned desired word lengths, made to fit by `water_fill`.

    A gate that sees mean and standard deviation of the 52 idsf mixes two rules, each a slope along idsf and a table by
    BFU and block length. A BFU with long blocks whose largest energy, relative to the loudness, lies below a learned
    threshold receives nothing. Spare bits go to the BFUs in the order of a learned rank.

    The BFU layout, the word lengths, the budget with its bisection, and the steps of the number of BFUs are built in;
    slopes, tables, gate, thresholds and ranks are learned, 317 numbers.

    Example:
        >>> spectrum, idsf = torch.rand(1, 512), torch.full((1, 52), 60.0)
        >>> NeuralAllocator()(spectrum, idsf, torch.zeros(1, 3)).idwl.shape
        torch.Size([1, 52])
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.layout = BfuLayout()
        self.slopes = nn.Parameter(0.1 * torch.randn(2))
        self.tables = nn.Parameter(torch.randn(2, 2, t.N_BFU_MAX))
        """By rule, long or short, BFU."""
        self.gate = nn.Linear(2, 1)
        with torch.no_grad():  # between 0 and 1, where the clamped gate has a slope
            self.gate.weight.mul_(0.1)
            self.gate.bias.fill_(0.5)
        self.threshold = nn.Parameter(-30 + torch.randn(t.N_BFU_MAX))
        """log2 of the energy of a just audible BFU at the initial loudness."""
        self.spare_rank = nn.Parameter(0.7 + 0.1 * torch.randn(t.N_BFU_MAX))
        """Rank of each BFU for spare bits, see `water_fill`."""

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide the number of BFUs and their word lengths."""
        check_shapes(spectrum=spectrum, idsf=idsf, bsm=bsm)
        short = self.layout.bsm_of_bfu(bsm.detach()) > 0
        audibility = self.audibility(self.layout.maximum(spectrum.detach(), bsm).square(), loudness)
        desired = self.desired(idsf, short).double()
        n_bfu, idwl = water_fill(desired, (audibility > 0) | short, self.spare_rank, audibility.where(~short, 0.0))
        return Allocation(n_bfu.to(idsf.dtype), idwl.to(idsf.dtype), idsf)

    def mixture(self, idsf: Tensor) -> Tensor:
        """Return the share of the first rule. Shape: idsf [*, 52] -> [*, 1]."""
        deviation = idsf.var(-1, unbiased=False, keepdim=True).clamp_min(1e-6).sqrt()
        features = torch.cat([idsf.mean(-1, keepdim=True), deviation], -1) / 10
        share: Tensor = self.gate(features.to(self.gate.weight.dtype))
        return share.clamp(0, 1).to(idsf.dtype)

    def desired(self, idsf: Tensor, short: Tensor) -> Tensor:
        """Return desired word lengths. Shape: idsf, short [*, 52] -> [*, 52]. Units: bits per value."""
        share, rules = self.mixture(idsf), zip(self.slopes, self.tables, strict=True)
        first, second = (slope * idsf + torch.where(short, table[1], table[0]) for slope, table in rules)
        desired: Tensor = share * first + (1 - share) * second
        return desired

    def audibility(self, energy: Tensor, loudness: Tensor | None = None) -> Tensor:
        """Return the largest energy of each BFU over its threshold.

        Shape: energy [*, 52], loudness [*] -> [*, 52]
        Units: log2 of a ratio of energies
        """
        tiny = torch.finfo(energy.dtype).tiny
        scale = torch.ones_like(energy[..., :1]) if loudness is None else loudness[..., None].to(energy.dtype) / START
        return energy.clamp_min(tiny).log2() - scale.clamp_min(tiny).log2() - self.threshold

    @property
    def spare_order(self) -> list[int]:
        """BFUs that receive spare bits, in order."""
        return ranked_bfus(self.spare_rank.detach())
