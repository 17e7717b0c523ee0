"""Allocator: decides how many bits each BFU gets.

    spectrum, idsf, bsm, loudness ─[ allocator ]→ n_bfu, idwl, idsf

The format leaves this to the encoder; here encoders differ most. Source: [atracdenc] atrac1_bitalloc.cpp,
atrac_psy_common.cpp; the curve of the hearing threshold is Frank's, from Musepack.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout
from atrac_modules.hearing_threshold import hearing_threshold
from atrac_modules.importance import Importance
from atrac_modules.loudness import START
from atrac_modules.ordered_float import running_sum, sqrt32
from atrac_modules.psychoacoustics import EXPONENT, MaskingModel
from atrac_modules.rate_distortion import allocate_by_importance, check_effort
from atrac_modules.stage import Stage, check_shape, full_precision
from atrac_modules.water_filling import NEVER, allocate, by_turn, follow, water_fill

_FIXED_LONG: Final = np.repeat([7, 6, 5, 4, 3, 2, 1, 0], [3, 19, 13, 3, 6, 1, 4, 3])
"""Word length of each BFU of noise-like frames before the shift, long blocks [52] …"""
_FIXED_SHORT: Final = np.repeat([6, 5, 4, 0], [24, 12, 8, 8])
"""… and short blocks [52]."""
_BOOSTED: Final = (18, 19, 20, 21, 22, 32, 33, 34, 35, 36, 37, 38)
"""BFUs that spare bits go to, in this order, which is also that of their sizes."""
_SPREAD_MAX: Final = 14.0
_IDSF_PER_BIT: Final = 3.2


@dataclass(frozen=True)
class Allocation:
    """What an allocator decides. Shape: n_bfu [*, F], idwl [*, F, 52], idsf [*, F, 52]."""

    n_bfu: Tensor
    idwl: Tensor
    idsf: Tensor


class Allocator(Stage):
    """Decides the number of BFUs and their word lengths, and may move their scale factors.

    Shape:  spectrum [*, F, 512], idsf [*, F, 52], bsm [*, F, 3], loudness [*, F] or None
            -> n_bfu [*, F], idwl [*, F, 52], idsf [*, F, 52]
    Dtype:  that of spectrum, whole numbers
    Raises: ShapeError: the last dimensions are others.

    The values fit: `used_value_bits(idwl) <= value_bits(n_bfu)` for every sound unit, and BFUs that are not carried
    have no bits. An allocator that leaves the scale factors where they are returns the very tensor it was given.
    Allocators that know no loudness ignore the argument.
    """

    @abstractmethod
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide what each BFU gets."""


@final
class ReferenceAllocator(Allocator):
    """The reference codec's allocation, all sound units at once.

    wanted = spread idsf / 3.2 + (1 - spread) fixed, where spread = min(std of the 52 idsf, 14) / 14 tells tones from
    noise and fixed is a table. A long BFU wholly below the hearing threshold (which moves with the loudness) wants
    nothing. What is wanted is made to fit by `water_fill`, which also says the slope; what is left over goes to BFUs
    around the middle.

    Example:
        >>> allocation = ReferenceAllocator()(torch.rand(1, 512), torch.full((1, 52), 60.0), torch.zeros(1, 3))
        >>> allocation.n_bfu, allocation.idwl[0, :4]
        (tensor([40.]), tensor([4., 4., 4., 3.]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.layout = BfuLayout()
        self.add_table("fixed_long", _FIXED_LONG)
        self.add_table("fixed_short", _FIXED_SHORT)
        self.add_table("threshold", hearing_threshold())
        turn = np.full(t.N_BFU_MAX, NEVER)
        turn[list(_BOOSTED)] = np.arange(len(_BOOSTED)) / len(_BOOSTED)
        self.add_table("turn", turn)

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide what each BFU gets."""
        _check_shapes(spectrum, idsf, bsm)
        index = idsf.double()  # what is wanted often lies just above or below a whole number of bits
        variance = (index - index.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
        # The square root's slope is infinite at 0, where all BFUs are alike and none should move.
        positive = variance > 0
        deviation = torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)
        spread = deviation.clamp_max(_SPREAD_MAX) / _SPREAD_MAX
        short = self.layout.bsm_of_bfu(bsm.detach()) > 0
        fixed = torch.where(short, self.get_buffer("fixed_short"), self.get_buffer("fixed_long"))
        wanted = spread * (index / _IDSF_PER_BIT) + (1 - spread) * fixed
        scale = torch.ones_like(idsf[..., 0]) if loudness is None else loudness.to(idsf.dtype) / START
        quiet = self.layout.maximum(spectrum.detach(), bsm).square() < self.get_buffer("threshold") * scale[..., None]
        n_bfu, idwl = water_fill(wanted, ~quiet | short, self.get_buffer("turn"))
        return Allocation(n_bfu.to(idsf.dtype), idwl.to(idsf.dtype), idsf)


@final
class RateDistortionAllocator(Allocator):
    """The least audible error that the bits allow, searched for: number of BFUs, word lengths and scale factors.

    minimise sum over coefficients of error ** 2 / threshold ** exponent, see `rate_distortion.py`

    Thresholds are those of `MaskingModel`, so that exponent 1 asks for noise at one distance below them in all bands of
    the ear, and 0 for the least noise. No gradient but that of the scale factors it was given, which it may move. The
    loudness is ignored.

    Args:
        exponent: 0 to 1.
        effort: in `EFFORTS`, how much is searched.

    Example:
        >>> click = torch.zeros(1, 512)
        >>> click[0, 40] = 0.3
        >>> allocation = RateDistortionAllocator()(click, torch.full((1, 52), 58.0), torch.zeros(1, 3))
        >>> allocation.n_bfu, allocation.idwl[0].nonzero()[:, 0]  # nothing but the BFU with something in it
        (tensor([20.]), tensor([6]))
    """

    sizes: Tensor

    def __init__(self, exponent: float = EXPONENT, effort: str = "default") -> None:
        super().__init__()
        if not 0 <= exponent <= 1:
            raise ValueError(f"exponent = {exponent}, allowed 0 to 1")
        self.settings: dict[str, Any] = {"exponent": exponent}
        self.exponent: Final = exponent
        self.effort = check_effort(effort)
        self.layout = BfuLayout()
        self.masking = MaskingModel()
        self.add_table("sizes", t.BFU_SIZES.astype(np.float64))

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide what each BFU gets."""
        _check_shapes(spectrum, idsf, bsm)
        inputs = spectrum.detach(), idsf.detach(), bsm.detach()
        n_bfu, idwl, offset = allocate_by_importance(*inputs, self.importance(inputs[0], inputs[2]), self.effort)
        return Allocation(n_bfu, idwl, idsf + offset)

    def importance(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return log2 of what a squared error costs in each BFU. Shape: [*, 512], [*, 3] -> [*, 52]."""
        if not self.exponent:
            return torch.zeros_like(spectrum[..., : t.N_BFU_MAX])
        weight = self.layout.sum(self.masking(spectrum, bsm) ** -self.exponent, bsm)
        return (weight / self.sizes.to(weight.dtype)).log2()


@final
class NeuralAllocator(Allocator):
    """Importances that a small network gives, in bits, made to fit by `water_fill`.

    Two rules, each a slope along idsf and a table by BFU and block length, are mixed by a gate that looks at mean and
    standard deviation of the 52 idsf. A long BFU whose largest energy, relative to the loudness, lies below a learned
    threshold wants nothing. Left over bits go to the BFUs in the order of their learned turns, to none whose turn
    never comes.

    The BFU layout, the word lengths, the budget with the bisection that fills it, and the stepping down of the number
    of BFUs are built in; slopes, tables, gate, thresholds and turns are learned, 317 numbers.

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
        with torch.no_grad():  # between its ends, beyond which a gate learns no more
            self.gate.weight.mul_(0.1)
            self.gate.bias.fill_(0.5)
        self.threshold = nn.Parameter(-30 + torch.randn(t.N_BFU_MAX))
        """log2 of the energy of a just audible BFU at the loudness of the start."""
        self.turn = nn.Parameter(0.7 + 0.1 * torch.randn(t.N_BFU_MAX))
        """When a BFU gets a spare bit, 0 at once .. 1 last, beyond that never."""

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide what each BFU gets."""
        _check_shapes(spectrum, idsf, bsm)
        short = self.layout.bsm_of_bfu(bsm.detach()) > 0
        audibility = self.audibility(self.layout.maximum(spectrum.detach(), bsm).square(), loudness)
        audible = (audibility > 0) | short
        wanted = self.wanted(idsf, short).double()
        n_bfu, idwl = water_fill(wanted, audible, self.turn, audibility.where(~short, 0.0))
        return Allocation(n_bfu.to(idsf.dtype), idwl.to(idsf.dtype), idsf)

    def mixture(self, idsf: Tensor) -> Tensor:
        """Return the share of the first rule. Shape: idsf [*, 52] -> [*, 1]."""
        deviation = idsf.var(-1, unbiased=False, keepdim=True).clamp_min(1e-6).sqrt()
        features = torch.cat([idsf.mean(-1, keepdim=True), deviation], -1) / 10
        return self.gate(features.to(self.gate.weight.dtype)).clamp(0, 1).to(idsf.dtype)

    def wanted(self, idsf: Tensor, short: Tensor) -> Tensor:
        """Return the importance of each BFU. Shape: idsf, short [*, 52] -> [*, 52]. Units: bits per value."""
        first, second = (
            slope * idsf + torch.where(short, table[1], table[0]) for slope, table in zip(self.slopes, self.tables)
        )
        share = self.mixture(idsf)
        return share * first + (1 - share) * second

    def audibility(self, energy: Tensor, loudness: Tensor | None = None) -> Tensor:
        """Return how far the largest energy of each BFU lies above its threshold.

        Shape: energy [*, 52], loudness [*] -> [*, 52]
        Units: log2 of energy
        """
        tiny = torch.finfo(energy.dtype).tiny
        scale = torch.ones_like(energy[..., :1]) if loudness is None else loudness[..., None].to(energy.dtype) / START
        return energy.clamp_min(tiny).log2() - scale.clamp_min(tiny).log2() - self.threshold

    @property
    def boosted(self) -> list[int]:
        """BFUs that spare bits go to, in order."""
        return by_turn(self.turn.detach())


@final
class BitExactAllocator(Allocator):
    """The same allocation with sums in the reference codec's order of float32 operations, the rest in float64.

    No gradient. Dtype: float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layout = BfuLayout()
        self.register_buffer("fixed_long", torch.from_numpy(_FIXED_LONG), persistent=False)
        self.register_buffer("fixed_short", torch.from_numpy(_FIXED_SHORT), persistent=False)
        self.register_buffer("threshold", torch.from_numpy(hearing_threshold()), persistent=False)

    @full_precision
    @torch.no_grad()
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide what each BFU gets."""
        _check_shapes(spectrum, idsf, bsm)
        spectrum = spectrum.float()
        mean = idsf.sum(-1, keepdim=True) / t.N_BFU_MAX  # whole numbers: exact in any order
        deviation = sqrt32(running_sum((idsf - mean).square()) / t.N_BFU_MAX)
        spread = (deviation.clamp_max(_SPREAD_MAX).double() / _SPREAD_MAX).float().double()[..., None]
        short = self.layout.bsm_of_bfu(bsm) > 0
        fixed = torch.where(short, self.get_buffer("fixed_short"), self.get_buffer("fixed_long"))
        wanted = spread * (idsf.double() / _IDSF_PER_BIT) + (1 - spread) * fixed
        scale = torch.ones_like(idsf[..., 0]) if loudness is None else loudness.float() / START
        quiet = self.layout.maximum(spectrum, bsm).square() < self.get_buffer("threshold") * scale[..., None]
        n_bfu, idwl = allocate(wanted.masked_fill(quiet & ~short, -torch.inf), _BOOSTED)
        return Allocation(n_bfu.float(), idwl.float(), idsf)


@final
class NeuralRateDistortionAllocator(Allocator):
    """The search of `RateDistortionAllocator` with learned importances in place of the ear model's.

    Backward, the word length of each BFU that is carried follows half its importance, minus the mean over those BFUs by
    size: the price gives in when the bits do not fit.

    Args:
        hidden, features: of the network, see `Importance`.
        effort: in `EFFORTS`, how much is searched; it is not saved.

    Example:
        >>> spectrum, idsf = torch.rand(1, 512), torch.full((1, 52), 63.0)
        >>> NeuralRateDistortionAllocator()(spectrum, idsf, torch.zeros(1, 3)).idwl.shape
        torch.Size([1, 52])
    """

    def __init__(
        self, hidden: int = 64, features: Sequence[str] = Importance.FEATURES, effort: str = "default"
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"hidden": hidden, "features": list(features)}
        self.effort = check_effort(effort)
        self.importance = Importance(hidden, features)

    @full_precision
    def forward(self, spectrum: Tensor, idsf: Tensor, bsm: Tensor, loudness: Tensor | None = None) -> Allocation:
        """Decide what each BFU gets."""
        _check_shapes(spectrum, idsf, bsm)
        inputs = spectrum.detach(), idsf.detach(), bsm.detach()
        importance = self.importance(*inputs, loudness)
        n_bfu, idwl, offset = allocate_by_importance(*inputs, importance.detach(), self.effort)
        idwl = follow(importance / 2, torch.ones_like(importance, dtype=torch.bool), n_bfu, idwl)
        return Allocation(n_bfu, idwl, idsf + offset)


def _check_shapes(spectrum: Tensor, idsf: Tensor, bsm: Tensor) -> None:
    check_shape("spectrum", spectrum, -1, t.FRAME_SAMPLES)
    check_shape("idsf", idsf, -1, t.N_BFU_MAX)
    check_shape("bsm", bsm, -1, t.N_BANDS)
