"""Transient detection: decides for each band and frame between one long MDCT block and several short ones.

    … ─qmf→ bands ─[ transient ]→ bsm;  bands, bsm ─mdct→ …

A level is taken of every 16 samples of the high-passed band; a frame whose level jumps is split. Source:
[atracdenc] transient_detector.cpp; the format leaves the decision to the encoder.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import BANDS, BFU_SIZES, BSM_SHORT, FRAME_SAMPLES, N_BANDS, SHORT_SIZE
from atrac_modules.bfu import BfuLayout
from atrac_modules.mdct import ReferenceMdct
from atrac_modules.ordered_float import log10f, running_sum, sqrt32
from atrac_modules.psychoacoustics import EXPONENT, N_BLOCKS, MaskingModel, by_coefficient
from atrac_modules.rate_distortion import Choices, cheapest, estimate, measure, prepare, price_of
from atrac_modules.scaler import ReferenceScaler
from atrac_modules.sliding import sliding_matrix
from atrac_modules.stage import Stage, check_shape, full_precision
from atrac_modules.straight_through import hard_forward_soft_backward

BLOCK: Final = 16
"""Band samples that one level is taken of."""
RISE: Final = 16.0
"""dB by which the level must rise for a short block …"""
FALL: Final = 20.0
"""… or fall. "dB" are 19 log10(rms) here, as in the reference codec."""
_SILENCE: Final = 1e-20
"""Power that stands for silence where a logarithm needs one."""
_HISTORY: Final = 20
_UNSTEADY: Final = 2.0
"""Ratio of the thresholds of two blocks in a frame from which on both kinds of blocks are tried."""
_QUIET: Final = 2.0**-32
"""Squared coefficient of a long block that stands for rounding to 16 bits."""
_STEADY: Final = 3.0
"""log2 of the ratio of energies within a frame up to which it counts as steady."""
_PASSES: Final = 2
_REACH: Final = (1, 1)
_TAPS: Final = [
    -8.65163e-18, -0.00851586, -6.74764e-18, 0.0209036, -3.36639e-17,
    -0.0438162, -1.54175e-17, 0.0931738, -5.52212e-17, -0.313819,
]  # fmt: skip
"""First half of the high-pass: tap j belongs to samples j and 21 - j of 22, and sample 10 has 0.5."""


class Transient(Stage):
    """Decides the block size modes.

    Shape:  bands [*, F, 512] -> bsm [*, F, 3]
    Dtype:  that of bands, whole numbers: 0 long; 2, 2, 3 short
    Raises: ShapeError: the last dimensions are not [F, 512].

    The level before the first frame counts as 0, as at the start of a recording; since that is no real level, frame 0
    says little. Frames that are given before the ones that are wanted carry the level on.
    """

    @abstractmethod
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""


@final
class ReferenceTransient(Transient):
    """The reference codec's detector with its filter as one matrix.

    Backward, the step from long to short is a logistic curve of the level change in excess of its threshold:
    bsm = mode of short blocks x sigmoid(excess / width), where excess is the largest over the frame of rise - 16 dB
    and fall - 20 dB.

    Args:
        width: dB over which the logistic curve turns.

    Example:
        >>> click = torch.zeros(1, 4, 512)
        >>> click[0, 2, 300] = 1.0
        >>> ReferenceTransient()(click)[0, :, 2].tolist()
        [3.0, 0.0, 3.0, 0.0]
    """

    matrix: Tensor
    signs: Tensor
    modes: Tensor

    def __init__(self, width: float = 4.0) -> None:
        super().__init__()
        self.width: Final = width
        self.add_table("matrix", high_pass_matrix())
        self.add_table(
            "signs",
            np.where((np.arange(FRAME_SAMPLES) % 2 == 0) & (np.arange(FRAME_SAMPLES) >= 128), -1.0, 1.0),
        )
        self.add_table("modes", np.array(BSM_SHORT, np.float64))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        flipped = bands * self.signs.to(bands.dtype)
        return torch.stack([self._decide(flipped[..., band]) * mode for band, mode in zip(BANDS, self.modes)], -1)

    def _decide(self, band: Tensor) -> Tensor:
        """Return 1 for short and 0 for long, [*, F, n] -> [*, F]."""
        windows = pad(band.flatten(-2), (_HISTORY, 0)).unfold(-1, _HISTORY + BLOCK, BLOCK)
        power = (windows @ self.matrix.to(band.dtype)).square().mean(-1)
        hard = (_excess(9.5 * power.log10(), band.shape[-2]) > 0).any(-1).to(band.dtype)
        if not band.requires_grad:
            return hard
        # For the slope only: silence at a finite level keeps every difference finite.
        excess = _excess(9.5 * power.clamp_min(_SILENCE).log10(), band.shape[-2]).amax(-1)
        return hard_forward_soft_backward(hard, torch.sigmoid(excess / self.width))


@final
class RateDistortionTransient(Transient):
    """Both kinds of blocks tried, in every band: those are taken whose error and bits cost less.

    cost = sum over coefficients of error ** 2 / threshold ** exponent + price x bits, see `rate_distortion.py`

    The threshold of a long block is that of each of its moments in turn, so that noise before an attack costs what it
    costs there. The price is the one at which the whole sound unit fits, found first with long blocks and then with
    those that were chosen. Only frames with a band whose energy moves enough are looked at. No gradient.

    Args:
        exponent: as in `RateDistortionAllocator`.

    Example:
        >>> click = torch.zeros(1, 4, 512)
        >>> click[0, 2, 300] = 1.0
        >>> RateDistortionTransient()(click)[0, :, 2].tolist()
        [0.0, 0.0, 3.0, 0.0]
    """

    modes: Tensor
    sizes: Tensor

    def __init__(self, exponent: float = EXPONENT) -> None:
        super().__init__()
        if not 0 <= exponent <= 1:
            raise ValueError(f"exponent = {exponent}, allowed 0 to 1")
        self.settings: dict[str, Any] = {"exponent": exponent}
        self.exponent: Final = exponent
        self.mdct = ReferenceMdct()
        self.scaler = ReferenceScaler()
        self.masking = MaskingModel()
        self.layout = BfuLayout()
        self.add_table("sizes", BFU_SIZES.astype(np.float64))
        self.add_table("modes", np.array(BSM_SHORT, np.float64))

    @full_precision
    @torch.no_grad()
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        modes = self.modes.to(bands.dtype)
        all_short = modes.expand(*bands.shape[:-1], N_BANDS)
        short = self.mdct(bands, all_short).reshape(-1, FRAME_SAMPLES)
        envelope = self.masking.envelope(short)
        unsteady = torch.stack([x.amax(-1) / x.amin(-1) for x in envelope.split(N_BLOCKS, -1)], -1) > _UNSTEADY
        rows = unsteady.any(-1).nonzero()[:, 0]
        bsm = torch.zeros_like(all_short).reshape(-1, N_BANDS)
        if len(rows):
            long = self.mdct(bands, torch.zeros_like(all_short)).reshape(-1, FRAME_SAMPLES)
            bsm[rows] = self._decide(long[rows], short[rows], envelope[rows]) * modes
        return bsm.view(all_short.shape)

    def _decide(self, long: Tensor, short: Tensor, envelope: Tensor) -> Tensor:
        """Return which bands get short blocks. Shape: [N, 512], [N, 512], [N, 16] -> bool [N, 3]."""
        threshold = self.masking.threshold(self.masking.power(long, torch.zeros_like(long[:, :N_BANDS])))
        mean = torch.cat([x.pow(-self.exponent).mean(-1, keepdim=True) for x in envelope.split(N_BLOCKS, -1)], -1)
        modes = self.modes.to(long.dtype).expand_as(mean)
        weight = threshold**-self.exponent * by_coefficient(mean)
        long_blocks, price = self._measure(long, torch.zeros_like(modes), weight)
        weight = self.masking.within_frame(threshold, envelope) ** -self.exponent
        short_blocks, _ = self._measure(short, modes, weight)
        band = self.layout.get_buffer("band_of_bfu")
        is_short = torch.zeros(N_BANDS, len(long), dtype=torch.bool, device=long.device)
        for _ in range(_PASSES):
            cost = torch.where(is_short[band], short_blocks.cost, long_blocks.cost)
            bits = torch.where(is_short[band], short_blocks.bits, long_blocks.bits)
            price = price_of(replace(long_blocks, cost=cost, bits=bits), price)
            gain = cheapest(long_blocks, price)[0] - cheapest(short_blocks, price)[0]
            is_short = torch.zeros_like(is_short, dtype=gain.dtype).index_add(0, band, gain) > 0
        return is_short.T

    def _measure(self, spectrum: Tensor, bsm: Tensor, weight: Tensor) -> tuple[Choices, Tensor]:
        weight = self.layout.sum(weight, bsm) / self.sizes.to(weight.dtype)
        prepared = prepare(spectrum, self.scaler(spectrum, bsm), bsm, weight, self.layout)
        first = estimate(prepared)
        return measure(prepared, first.idwl, _REACH), first.price


@final
class NeuralTransient(Transient):
    """A detector with a learned front end: filters, their power over 16 samples, level, change, two thresholds.

    short where max over the frame of max(change - rise, -change - fall) > 0, change in dB

    That blocks have 16 samples and that a level is compared with the one before is built in; filters, thresholds and
    the steepness of the slope are learned, 261 numbers. Several filters whose powers are added find the one that is
    wanted; a single one gets stuck at its magnitude response with another phase.

    Args:
        filters: number of filters for each band.
        taps: their length.

    Example:
        >>> NeuralTransient()(torch.zeros(2, 3, 512)).shape
        torch.Size([2, 3, 3])
    """

    modes: Tensor

    def __init__(self, filters: int = 4, taps: int = 21) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"filters": filters, "taps": taps}
        self.filters = nn.Parameter(torch.randn(N_BANDS, filters, taps) / taps**0.5)
        self.rise = nn.Parameter(1 + 0.1 * torch.randn(N_BANDS))
        self.fall = nn.Parameter(1 + 0.1 * torch.randn(N_BANDS))
        """Thresholds in units of 10 dB."""
        self.steepness = nn.Parameter(torch.full((N_BANDS,), -2.0))
        """Natural logarithm of the slope's steepness, per dB."""
        self.add_table("modes", np.array(BSM_SHORT, np.float64))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        excess = torch.stack([beyond.amax(-1) for beyond in self.excess(bands)], -1)
        hard = (excess > 0).to(excess.dtype)
        soft = torch.sigmoid(excess * self.steepness.exp().to(excess.dtype))
        return hard_forward_soft_backward(hard, soft) * self.modes.to(excess.dtype)

    def excess(self, bands: Tensor) -> list[Tensor]:
        """Return how far each change of level lies beyond its threshold, for each band.

        Shape: [*, F, 512] -> [*, F, 8], [*, F, 8], [*, F, 16]
        Units: dB
        """
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        taps = self.filters.shape[-1]
        matrices = sliding_matrix(self.filters.to(bands.dtype), BLOCK).transpose(1, 2).flatten(2)
        excess = []
        for index, own in enumerate(BANDS):
            samples = pad(bands[..., own].flatten(-2), (taps - 1, 0)).unfold(-1, taps - 1 + BLOCK, BLOCK)
            power = (samples @ matrices[index]).square().sum(-1) / BLOCK
            level = 10 * power.clamp_min(_SILENCE).log10()
            excess.append(_excess(level, bands.shape[-2], 10 * self.rise[index], 10 * self.fall[index]))
        return excess


@final
class NeuralEntropyTransient(Transient):
    """A network that weighs, in each band, what long and what short blocks would leave to code, and when.

    It sees for each band the mean logarithms of the squared coefficients of both kinds of blocks, whose difference is
    what one saves over the other, and the logarithm of the energy of every 32 samples, from the last ones of the frame
    before on. What 16 bits round off counts as silence. Both transforms are fixed, and frames whose energy is steady in
    all bands stay long unseen.

    Backward, the step from long to short is the logistic function of what the network says, for its weights alone:
    along the sound, the slopes of logarithms of quiet blocks would drown all others.

    Args:
        hidden: width of the network's two layers.

    Example:
        >>> NeuralEntropyTransient()(torch.zeros(2, 3, 512)).shape
        torch.Size([2, 3, 3])
    """

    modes: Tensor

    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"hidden": hidden}
        self.mdct = ReferenceMdct()
        self.add_table("modes", np.array(BSM_SHORT, np.float64))
        seen = sum(N_BLOCKS) + 3 * N_BANDS
        self.network = nn.Sequential(
            nn.Linear(seen, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, N_BANDS)
        )

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        excess, unsteady = self.excess(bands.detach())
        hard = ((excess > 0) & unsteady[..., None]).to(excess.dtype)
        soft = excess.sigmoid() * unsteady[..., None]
        return hard_forward_soft_backward(hard, soft) * self.modes.to(excess.dtype)

    def excess(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Return how sure it is of short blocks, above 0, or of long ones, and which frames it has looked at.

        Shape: [*, F, 512] -> [*, F, 3], bool [*, F]
        """
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        before = pad(bands, (0, 0, 1, 0))[..., :-1, :]
        blocks = []
        for own in BANDS:
            samples = torch.cat([before[..., own][..., -SHORT_SIZE:], bands[..., own]], -1)
            blocks.append((samples.unflatten(-1, (-1, SHORT_SIZE)).square().mean(-1) / FRAME_SAMPLES + _QUIET).log2())
        unsteady = torch.stack([x[..., 1:].amax(-1) - x[..., 1:].amin(-1) for x in blocks], -1).amax(-1) > _STEADY
        if torch.compiler.is_compiling():
            return self._weigh(bands, before, blocks), unsteady
        excess = bands.new_zeros(*unsteady.shape, N_BANDS)
        if unsteady.any():
            looked = self._weigh(bands[unsteady], before[unsteady], [x[unsteady] for x in blocks])
            excess = excess.masked_scatter(unsteady[..., None], looked)
        return excess, unsteady

    def _weigh(self, bands: Tensor, before: Tensor, blocks: list[Tensor]) -> Tensor:
        """Ask the network. Shape: [*, 512], [*, 512], [*, n] for each band -> [*, 3]."""
        kinds = [spectrum.square() for spectrum in self.mdct.both(bands, before)]
        seen = []
        for own, n_blocks, energy in zip(BANDS, N_BLOCKS, blocks, strict=True):
            long, short = (
                (kind[..., own] / share + _QUIET).log2().mean(-1, keepdim=True)
                for kind, share in zip(kinds, (1, n_blocks), strict=True)
            )
            seen += [short - long, long / 8 + 2, energy - energy.mean(-1, keepdim=True)]
        said: Tensor = self.network(torch.cat(seen, -1).to(next(self.network.parameters()).dtype))
        return said.to(bands.dtype)


@final
class BitExactTransient(Transient):
    """The reference codec's order of float32 operations.

    No gradient. Dtype: float32.
    """

    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", (2 * torch.tensor(_TAPS, dtype=torch.float64)).float(), persistent=False)

    @torch.no_grad()
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        check_shape("bands", bands, -1, FRAME_SAMPLES)
        bands = bands.float().clone()
        bands[..., BANDS[1].start :: 2] *= -1
        return torch.stack([self._decide(bands[..., band]) * mode for band, mode in zip(BANDS, BSM_SHORT)], -1)

    def _decide(self, band: Tensor) -> Tensor:
        # In the reference codec the sample past the end of a frame always reads as 0.
        frames = pad(band.flatten(-2), (_HISTORY, 0)).unfold(-1, _HISTORY + band.shape[-1], band.shape[-1])
        samples = pad(frames, (0, 1))
        n = band.shape[-1]

        def at(offset: int) -> Tensor:
            return samples[..., offset : offset + n]

        first, second = at(10).clone(), torch.zeros_like(band)
        for j in range(0, len(_TAPS), 2):
            first += (at(j) + at(21 - j)) * self.taps[j]
            second += (at(j + 1) + at(20 - j)) * self.taps[j + 1]
        filtered = (first + second) / 2
        power = running_sum(filtered.square().unflatten(-1, (-1, BLOCK)).flatten(-3, -2)) / BLOCK
        level = (19.0 * log10f(sqrt32(power)).double()).float()
        return (_excess(level, band.shape[-2]) > 0).any(-1).float()


def high_pass_matrix() -> NDArray[np.float64]:
    """Return the high-pass as a matrix from 20 past and 16 new samples to 16 filtered ones [36, 16].

    Taps below 1e-16 are left out.
    """
    taps = np.zeros(_HISTORY + 1)
    taps[10] = 0.5
    for j in range(1, len(_TAPS), 2):
        taps[[j, 21 - j]] += _TAPS[j]
    return sliding_matrix(torch.from_numpy(taps), BLOCK).numpy()


def _excess(level: Tensor, frames: int, rise: Tensor | float = RISE, fall: Tensor | float = FALL) -> Tensor:
    """Return how far each level change lies beyond its threshold: [*, F n] -> [*, F, n] in dB.

    Two silent blocks give not a number, which is beyond nothing.
    """
    change = level - pad(level, (1, 0))[..., :-1]
    return torch.maximum(change - rise, -change - fall).unflatten(-1, (frames, -1))
