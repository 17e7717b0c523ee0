"""Allocator: decides how many bits each BFU gets.

    spectrum, idsf, bsm, loudness ─[ allocator ]→ n_bfu, idwl, idsf

The format leaves this to the encoder; here encoders differ most. Source: [atracdenc] atrac1_bitalloc.cpp,
atrac_psy_common.cpp; the curve of the hearing threshold is Frank's, from Musepack.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import tables as t
from atrac_modules.bfu import BfuLayout
from atrac_modules.loudness import START
from atrac_modules.ordered_float import running_sum, sqrt32
from atrac_modules.stage import Stage, check_shape, full_precision
from atrac_modules.straight_through import hard_forward_soft_backward

_FIXED_LONG: Final = np.repeat([7, 6, 5, 4, 3, 2, 1, 0], [3, 19, 13, 3, 6, 1, 4, 3])
"""Word length of each BFU of noise-like frames before the shift, long blocks [52] …"""
_FIXED_SHORT: Final = np.repeat([6, 5, 4, 0], [24, 12, 8, 8])
"""… and short blocks [52]."""
_BOOSTED: Final = (18, 19, 20, 21, 22, 32, 33, 34, 35, 36, 37, 38)
"""BFUs that spare bits go to, in this order, which is also that of their sizes."""
_SPREAD_MAX: Final = 14.0
_IDSF_PER_BIT: Final = 3.2
_SHIFT_START, _SHIFT_LOW, _SHIFT_HIGH = 3.0, -3.0, 15.0
_SHIFT_RANGE: Final = 0.1
_SPARE_BITS: Final = 110
"""An allocation that leaves fewer bits than this is good enough."""
_WORD_LENGTH_MAX: Final = 16
_FRACTION: Final = 24
_ONE: Final = 1 << _FRACTION
"""One bit, in the fixed-point numbers of the bisection."""

# fmt: off
_FRANK: Final = [
    9669, 9669, 9626, 9512, 9353, 9113, 8882, 8676, 8469, 8243, 7997, 7748, 7492, 7239, 7000, 6762,
    6529, 6302, 6084, 5900, 5717, 5534, 5351, 5167, 5004, 4812, 4638, 4466, 4310, 4173, 4050, 3922,
    3723, 3577, 3451, 3281, 3132, 3036, 2902, 2760, 2658, 2591, 2441, 2301, 2212, 2125, 2018, 1900,
    1770, 1682, 1594, 1512, 1430, 1341, 1260, 1198, 1136, 1057,  998,  943,  887,  846,  744,  712,
     693,  668,  637,  606,  580,  555,  529,  502,  475,  448,  422,  398,  375,  351,  327,  322,
     312,  301,  291,  268,  246,  215,  182,  146,  107,   61,   13,  -35,  -96, -156, -179, -235,
    -295, -350, -401, -421, -446, -499, -532, -535, -513, -476, -431, -313, -179,    8,  203,  403,
     580,  736,  881, 1022, 1154, 1251, 1348, 1421, 1479, 1399, 1285, 1193, 1287, 1519, 1914, 2369,
    3352, 4352, 5352, 6352, 7352, 8352, 9352, 9999, 9999, 9999, 9999, 9999,
]
# fmt: on
"""Hearing threshold in millibel, 40 values to the decade from 10 Hz on."""


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
    noise and fixed is a table; word length = trunc(wanted - shift), 0 below 2, with the shift bisected per sound unit
    until the bits fit. A long BFU wholly below the hearing threshold (which moves with the loudness) wants nothing.
    When the highest BFUs stay empty, one step fewer is carried and the bisection starts again. What is left over goes
    one bit at a time to BFUs around the middle.

    Backward, the word length of each BFU that wants something follows wanted minus its mean over those BFUs, weighted
    by their size: the shift gives in when the bits do not fit.

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
        audible = ~quiet | short
        n_bfu, idwl = allocate(torch.where(audible, wanted.detach(), -torch.inf))
        idwl = idwl.to(idsf.dtype)
        if wanted.requires_grad:
            weight = (audible & carries(n_bfu)) * torch.as_tensor(t.BFU_SIZES, device=idsf.device)
            mean = (wanted * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp_min(1)
            idwl = hard_forward_soft_backward(idwl, torch.where(weight > 0, wanted - mean, 0.0).to(idsf.dtype))
        return Allocation(n_bfu.to(idsf.dtype), idwl, idsf)


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
        n_bfu, idwl = allocate(wanted.masked_fill(quiet & ~short, -torch.inf))
        return Allocation(n_bfu.float(), idwl.float(), idsf)


def carries(n_bfu: Tensor) -> Tensor:
    """Tell which of the 52 BFUs are carried. Shape: [*] -> bool [*, 52]."""
    return torch.arange(t.N_BFU_MAX, device=n_bfu.device) < n_bfu[..., None]


def allocate(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Find shift, number of BFUs and boosts for sound units that want so many bits per value.

    Args:
        wanted: word length before the shift; minus infinity for none.

    Shape:  [*, 52] -> n_bfu [*], idwl [*, 52]
    Dtype:  int64
    """
    leading = wanted.shape[:-1]
    # Whole numbers of 2 ** -24 bits: exact, and faster.
    wanted = (wanted.reshape(-1, t.N_BFU_MAX).clamp(-40, 40) * _ONE).floor().to(torch.int32)
    words = torch.zeros_like(wanted)
    n_bfu = torch.zeros_like(wanted[:, 0])
    spare = torch.zeros_like(wanted[:, 0])
    unit = torch.arange(len(wanted), device=wanted.device)  # sound units still undecided
    for fewer, amount in zip((0, *t.BFU_AMOUNTS[:-1])[::-1], t.BFU_AMOUNTS[::-1], strict=True):
        empty = _stays_empty(wanted[unit, :amount], fewer, t.value_bits(amount))
        candidates, unit = unit[~empty], unit[empty]
        if not len(candidates):
            continue
        tried, left = _bisect(wanted[candidates, :amount], t.value_bits(amount))
        filled = tried[:, fewer:].any(-1) | (fewer == 0)
        done = candidates[filled]
        words[done, :amount], n_bfu[done], spare[done] = tried[filled], amount, left[filled]
        unit = torch.cat([unit, candidates[~filled]])
    _boost(words, spare, n_bfu)
    idwl = (words - 1).clamp_min(0)
    return n_bfu.reshape(leading).long(), idwl.reshape(*leading, t.N_BFU_MAX).long()


def _words(wanted: Tensor, shift: Tensor, available: int) -> tuple[Tensor, Tensor]:
    """Return the word lengths that a shift [n, 1] gives [n, amount], and the bits left over [n, 1], int32."""
    sizes = torch.as_tensor(t.BFU_SIZES[: wanted.shape[1]], device=wanted.device).float()
    words = (wanted - shift) >> _FRACTION
    words = (words * (words >= 2)).clamp_max(_WORD_LENGTH_MAX)
    return words, available - (words.float() @ sizes).int()[:, None]


def _stays_empty(wanted: Tensor, fewer: int, available: int) -> Tensor:
    """Tell for certain of which sound units the BFUs from `fewer` on will get nothing [n].

    The largest shift that would give them something does not fit, and larger ones give less.
    """
    if fewer == 0:
        return torch.zeros(len(wanted), dtype=torch.bool, device=wanted.device)
    shift = wanted[:, fewer:].amax(1, keepdim=True) - 2 * _ONE
    return (_words(wanted, shift, available)[1] < 0)[:, 0]


def _bisect(wanted: Tensor, available: int) -> tuple[Tensor, Tensor]:
    """Find the shift of each sound unit; return its word lengths [n, amount] and the bits left over [n], int32."""
    low = torch.full_like(wanted[:, :1], int(_SHIFT_LOW * _ONE))
    high = torch.full_like(low, int(_SHIFT_HIGH * _ONE))
    shift = torch.full_like(low, int(_SHIFT_START * _ONE))
    while True:
        words, left = _words(wanted, shift, available)
        over = left < 0
        settled = ~over & ((left <= _SPARE_BITS) | (high - low < int(_SHIFT_RANGE * _ONE)))
        if settled.all():
            return words, left[:, 0]
        low, high = torch.where(over, shift, low), torch.where(over | settled, high, shift)
        # A spectrum that no shift in the range makes fit, which the reference codec would ponder for ever.
        high = torch.where(over & (high - shift <= 1), high + int(_SHIFT_HIGH * _ONE), high)
        shift = shift + torch.where(over, (high - shift) >> 1, -((shift - low) >> 1)) * ~settled


def _boost(words: Tensor, spare: Tensor, n_bfu: Tensor) -> None:
    """Give spare bits away in rounds: one more bit per value, two where there was none."""
    boosted = torch.tensor(_BOOSTED, device=words.device)
    carried = boosted < n_bfu[:, None]
    columns = words[:, boosted].masked_fill(~carried, _WORD_LENGTH_MAX)  # full, so that they are passed over
    active = torch.arange(len(words), device=words.device)
    while len(active):
        before = left = spare[active]
        given = []
        for bfu, word in zip(_BOOSTED, columns[active].unbind(1), strict=True):
            size = int(t.BFU_SIZES[bfu])
            more = 1 + (word == 0).int()
            more = more * ((more * size <= left) & (word < _WORD_LENGTH_MAX))
            left = left - more * size
            given.append(word + more)
        columns[active], spare[active] = torch.stack(given, 1), left
        active = active[left < before]
    words[:, boosted] = columns * carried


def hearing_threshold() -> NDArray[np.float32]:
    """Return the power below which a long BFU is taken for inaudible [52], float32 as the reference codec's.

    The least over the BFU's coefficients of Frank's table - 100 dB - 0.015 f ** 2, f in kHz.
    """
    kilohertz = (np.arange(1, 513, dtype=np.float32) * np.float32(22.05)) / np.float32(512)
    position = 40 * np.log10(0.1 * (1e3 * kilohertz.astype(np.float64)).astype(np.float32).astype(np.float64))
    index = position.astype(np.int64)
    table = np.array(_FRANK, np.float64)
    frank = 0.01 * (table[index] * (1 + index - position) + table[index + 1] * (position - index))
    level = frank.astype(np.float32) - np.float32(100)
    level = (level - (kilohertz * kilohertz) * 0.015).astype(np.float32)
    return np.power(10.0, 0.1 * np.minimum.reduceat(level, t.BFU_OFFSETS[:-1]).astype(np.float64)).astype(np.float32)


def _check_shapes(spectrum: Tensor, idsf: Tensor, bsm: Tensor) -> None:
    check_shape("spectrum", spectrum, -1, t.FRAME_SAMPLES)
    check_shape("idsf", idsf, -1, t.N_BFU_MAX)
    check_shape("bsm", bsm, -1, t.N_BANDS)
