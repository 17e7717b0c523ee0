"""Transient stages that choose the blocks which cost less to code: by a search, or by a network that learned from it.

    … ─qmf→ bands ─[ transient ]→ bsm;  bands, bsm ─mdct→ …

The role is described in `transient.py`.
"""

from __future__ import annotations

from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import BANDS, BSM_SHORT, FRAME_SAMPLES, N_BANDS, SHORT_SIZE
from atrac_modules.bfu import BfuLayout
from atrac_modules.distortion import measure, prepare
from atrac_modules.mdct import ReferenceMdct
from atrac_modules.operation import float_rows, integer_rows
from atrac_modules.psychoacoustics import EXPONENT, N_BLOCKS, MaskingModel, by_coefficient, check_exponent
from atrac_modules.rate_distortion import fit_multiplier, guess_multiplier, minimise_lagrangian
from atrac_modules.scaler import ReferenceScaler
from atrac_modules.stage import check_shapes, full_precision
from atrac_modules.straight_through import hard_forward_soft_backward
from atrac_modules.transient import Transient
from atrac_runtime.kernels.block_choice import PASSES, choose_blocks

_LEAST_RATIO: Final = 2.0
"""Ratio of the thresholds of two blocks in a frame above which both kinds of blocks are tried."""
_ROUNDING_TO_16_BITS: Final = 2.0**-32
"""Squared coefficient of a long block that stands for rounding to 16 bits."""
_STEADY: Final = 3.0
"""log2 of the ratio of energies within a frame up to which the frame counts as steady."""


@final
class RateDistortionTransient(Transient):
    """Tries both kinds of blocks in every band and takes those of the smaller Lagrangian.

        sum over coefficients of error ** 2 / threshold ** exponent + λ · rate

    A long block is weighted by the thresholds of all its moments, so that noise before an attack counts by the
    threshold there. λ is that of `rate_distortion.py` at which the whole sound unit fits, found first with long blocks
    and then with those that were chosen. Only frames with a band whose energy changes enough are tried; all others are
    long. No gradient.

    Args:
        exponent: as in `RateDistortionAllocator`.

    Raises: ValueError: exponent is not from 0 to 1.

    Example:
        >>> click = torch.zeros(1, 4, 512)
        >>> click[0, 2, 300] = 1.0
        >>> RateDistortionTransient()(click)[0, :, 2].tolist()
        [0.0, 0.0, 3.0, 0.0]
    """

    modes: Tensor

    def __init__(self, exponent: float = EXPONENT) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"exponent": exponent}
        self.exponent: Final = check_exponent(exponent)
        self.mdct = ReferenceMdct()
        self.scaler = ReferenceScaler()
        self.masking = MaskingModel()
        self.layout = BfuLayout()
        self.add_table("modes", np.array(BSM_SHORT, np.float64))

    @full_precision
    @torch.no_grad()
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        check_shapes(bands=bands)
        modes = self.modes.to(bands.dtype)
        all_short = modes.expand(*bands.shape[:-1], N_BANDS)
        short = self.mdct(bands, all_short).reshape(-1, FRAME_SAMPLES)
        envelope = self.masking.envelope(short)
        ratio = torch.stack([x.amax(-1) / x.amin(-1) for x in torch.split(envelope, list(N_BLOCKS), -1)], -1)
        rows = (ratio > _LEAST_RATIO).any(-1).nonzero()[:, 0]
        bsm = torch.zeros_like(all_short).reshape(-1, N_BANDS)
        if len(rows):
            long = self.mdct(bands, torch.zeros_like(all_short)).reshape(-1, FRAME_SAMPLES)
            bsm[rows] = self._decide(long[rows], short[rows], envelope[rows]) * modes
        return bsm.view(all_short.shape)

    def _decide(self, long: Tensor, short: Tensor, envelope: Tensor) -> Tensor:
        """Return which bands have short blocks. Shape: [N, 512], [N, 512], [N, 16] -> bool [N, 3]."""
        threshold = self.masking.threshold(self.masking.power(long, torch.zeros_like(long[:, :N_BANDS])))
        blocks = torch.split(envelope, list(N_BLOCKS), -1)
        mean = torch.cat([x.pow(-self.exponent).mean(-1, keepdim=True) for x in blocks], -1)
        short_modes = self.modes.to(long.dtype).expand_as(mean)
        modes = torch.zeros_like(mean), short_modes
        weights = (
            threshold**-self.exponent * by_coefficient(mean),
            self.masking.within_frame(threshold, envelope) ** -self.exponent,
        )
        spectra = long, short
        idsf = [self.scaler(spectrum, bsm) for spectrum, bsm in zip(spectra, modes, strict=True)]
        weight = [self.layout.mean(own, bsm) for own, bsm in zip(weights, modes, strict=True)]
        if long.device.type == "cpu":
            importance = float_rows(weight[0].log2()), float_rows(weight[1].log2())
            indices = integer_rows(idsf[0]), integer_rows(idsf[1])
            return torch.from_numpy(choose_blocks((float_rows(long), float_rows(short)), indices, importance))
        prepared = [prepare(*own, self.layout) for own in zip(spectra, idsf, modes, weight, strict=True)]
        return self._search([measure(own).distortion for own in prepared])

    def _search(self, distortion: list[Tensor]) -> Tensor:
        """Do on any device what the kernel does. Shape: [16, 52, N] with long and with short blocks -> bool [N, 3]."""
        long, short = distortion
        band = self.layout.get_buffer("band_of_bfu")
        is_short = torch.zeros(N_BANDS, long.shape[-1], dtype=torch.bool, device=long.device)
        log2_lam = guess_multiplier(long)
        for _ in range(PASSES):
            log2_lam, _ = fit_multiplier(torch.where(is_short[band], short, long), log2_lam)
            gain = minimise_lagrangian(long, log2_lam.exp2())[0] - minimise_lagrangian(short, log2_lam.exp2())[0]
            is_short = torch.zeros_like(is_short, dtype=gain.dtype).index_add(0, band, gain) > 0
        return is_short.T


@final
class NeuralEntropyTransient(Transient):
    """A network that compares, in each band, the entropies that long and short blocks leave.

    For each band it sees the difference between short and long blocks in the mean logarithm of the squared
    coefficients, that mean for long blocks, and the logarithm of the energy of every 32 samples, from the last 32 of
    the frame before on. Energies below rounding to 16 bits count as silence. Both transforms are fixed. Frames whose
    energy is steady in all bands stay long without asking the network.

    Backward, the step from long to short is the logistic function of the network's output, and only the weights have a
    gradient: along the samples, the slopes of logarithms of quiet blocks would outweigh all others.

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
        first = nn.Linear(sum(N_BLOCKS) + 3 * N_BANDS, hidden)
        self.network = nn.Sequential(first, nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, N_BANDS))

    @full_precision
    def forward(self, bands: Tensor) -> Tensor:
        """Decide the block size modes of `bands`."""
        excess, unsteady = self.excess(bands.detach())
        hard = ((excess > 0) & unsteady[..., None]).to(excess.dtype)
        soft = excess.sigmoid() * unsteady[..., None]
        return hard_forward_soft_backward(hard, soft) * self.modes.to(excess.dtype)

    def excess(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit of short blocks, and which frames are unsteady and so were given to the network.

        Shape: [*, F, 512] -> [*, F, 3], bool [*, F]
        """
        check_shapes(bands=bands)
        before = pad(bands, (0, 0, 1, 0))[..., :-1, :]
        levels = []
        for own in BANDS:
            samples = torch.cat([before[..., own][..., -SHORT_SIZE:], bands[..., own]], -1)
            power = torch.unflatten(samples, -1, (-1, SHORT_SIZE)).square().mean(-1)
            levels.append((power / FRAME_SAMPLES + _ROUNDING_TO_16_BITS).log2())
        unsteady = torch.stack([x[..., 1:].amax(-1) - x[..., 1:].amin(-1) for x in levels], -1).amax(-1) > _STEADY
        if torch.compiler.is_compiling():
            return self._logit(bands, before, levels), unsteady
        excess = bands.new_zeros(*unsteady.shape, N_BANDS)
        if unsteady.any():
            logit = self._logit(bands[unsteady], before[unsteady], [x[unsteady] for x in levels])
            excess = excess.masked_scatter(unsteady[..., None], logit)
        return excess, unsteady

    def _logit(self, bands: Tensor, before: Tensor, levels: list[Tensor]) -> Tensor:
        """Ask the network. Shape: [*, 512], [*, 512], [*, n] for each band -> [*, 3]."""
        squares = [spectrum.square() for spectrum in self.mdct.both(bands, before)]
        features = []
        for own, n_blocks, level in zip(BANDS, N_BLOCKS, levels, strict=True):
            long, short = (
                (square[..., own] / share + _ROUNDING_TO_16_BITS).log2().mean(-1, keepdim=True)
                for square, share in zip(squares, (1, n_blocks), strict=True)
            )
            features += [short - long, long / 8 + 2, level - level.mean(-1, keepdim=True)]
        logit: Tensor = self.network(torch.cat(features, -1).to(next(self.network.parameters()).dtype))
        return logit.to(bands.dtype)
