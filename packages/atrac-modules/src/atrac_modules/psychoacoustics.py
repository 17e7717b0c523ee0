"""Psychoacoustics: masking thresholds from the MDCT spectrum, so that bits go where noise would be heard.

    spectrum, bsm ─→ threshold of each coefficient

    power ─ bands of half a Bark ─ lower for tones ─ spreading over frequency ─ + threshold in quiet ─→ threshold

This model decides the allocation; quality is reported by separate models, those of `atrac_losses`.
Source: [SCHROEDER-1979] for bands and slopes of spreading; [JOHNSTON-1988] for flatness as a measure of tonality; the
threshold in quiet is that of ITU-R BS.1387-1, annex 2, see [KABAL-2003]. The other numbers were tuned on recordings of
the train split by the measures of `atrac_losses` and an external PEAQ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from atrac_bitstream.tables import (
    BAND_OF_VALUE,
    BAND_SIZES,
    BANDS,
    BFU_BANDS,
    BSM_SHORT,
    FRAME_SAMPLES,
    LOW,
    SAMPLE_RATE,
    SHORT_SIZE,
)
from atrac_modules.stage import WithTables, check_shapes, full_precision

N_BLOCKS: Final = tuple(2**mode for mode in BSM_SHORT)
"""Short blocks in each band."""
_WIDTH: Final = 0.5
"""Width of a band in Bark."""
_DOWN: Final = 25.0
_UP: Final = 10.0
"""Slopes of masking towards lower and higher frequencies, in dB per Bark."""
_LOUDEST: Final = 94.0
"""Level of a full-scale sine in dB SPL."""
_FULL_SCALE: Final = 0.25
"""Sum of the squared coefficients of a full-scale sine."""
TONAL: Final = 2.0
"""log2 of the ratio of what noise and what a tone of the same power mask."""
EXPONENT: Final = 0.75
"""Default exponent of the threshold by which squared errors are divided; 0.65 to 0.85 make little difference."""
_NOISE_FLATNESS: Final = -3.0
_TONE_FLATNESS: Final = -15.0
"""Ratio of geometric to arithmetic mean power in dB, for noise and for a tone."""
_NEIGHBOURS: Final = 4
"""Coefficients on either side of a band that count in its flatness."""
_FADING: Final = 0.7, 0.7, 0.7**0.5
"""Energy of a block that still masks in the next one, by band."""
_MODULATION: Final = 0.5
"""Exponent of a block's share of the energy in its threshold."""
_SILENCE: Final = 1e-14


@final
class MaskingModel(WithTables):
    """Masking threshold: the energy of an error around each coefficient, in one band of the ear, that is not heard.

    Power in the low band is that of the frame under a Hann window, not that of the coefficients: the MDCT overlaps so
    little that it spreads a tone far, and would show maskers where there are none. Higher up, where the ear's bands are
    wide, the mean of coefficients and their neighbours suffices. In bands with short blocks the threshold follows the
    energy of each block, and a loud block also masks the next ones.

    Shape:  spectrum [*, F, 512], bsm [*, F, 3] -> threshold [*, F, 512]
    Dtype:  float32 or float64, kept
    Units:  square of a coefficient of a long block
    Raises: ShapeError: the last dimensions are not [F, 512] and [F, 3].

    Example:
        >>> quiet = MaskingModel()(torch.zeros(1, 512), torch.zeros(1, 3))[0]
        >>> round(SAMPLE_RATE / 1024 * quiet.argmin().item())  # Hz, where hearing is best
        3187
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_table("hann", _hann_matrix(BAND_SIZES[0]))
        grouping, near, spread, quiet = _ear()
        self.add_table("grouping", grouping)
        self.add_table("near", near)
        self.add_table("spread", spread)
        self.add_table("quiet", quiet)

    @full_precision
    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return the threshold of each coefficient."""
        check_shapes(spectrum=spectrum, bsm=bsm)
        threshold = self.threshold(self.power(spectrum, bsm))
        return where_short(
            bsm, threshold, lambda rows: self.within_frame(threshold[rows], self.envelope(spectrum[rows]))
        )

    def power(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return the power at the frequency of each coefficient of a long block.

        Shape: spectrum [*, 512], bsm [*, 3] -> [*, 512]
        """
        hann = self.get_buffer("hann").to(spectrum.dtype)
        low = torch.unflatten((spectrum[..., LOW] @ hann).square(), -1, (2, -1)).sum(-2)
        square = spectrum.square()
        near = torch.cat([square, square[..., -1:]], -1)
        high = (near[..., LOW.stop - 1 : -2] + 2 * near[..., LOW.stop : -1] + near[..., LOW.stop + 1 :]) / 4
        power = torch.cat([low, high], -1)
        return where_short(bsm, power, lambda rows: _blurred(square[rows]))

    def bands(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """Return power and tonality (0 noise, 1 tone) of each band of the ear.

        Shape: [*, 512] -> [*, n], [*, n]
        """
        grouping, near = (self.get_buffer(name).to(power.dtype) for name in ("grouping", "near"))
        power = power + _SILENCE
        energy, mean = (power @ torch.cat([grouping, near], 1)).chunk(2, -1)
        flatness = 10 * math.log10(2) * (power.log2() @ near - mean.log2())
        tonality = ((flatness - _NOISE_FLATNESS) / (_TONE_FLATNESS - _NOISE_FLATNESS)).clamp(0, 1)
        return energy, tonality

    def threshold(self, power: Tensor) -> Tensor:
        """Return the threshold of long blocks. Shape: power [*, 512] -> [*, 512]."""
        grouping, spread, quiet = (self.get_buffer(name).to(power.dtype) for name in ("grouping", "spread", "quiet"))
        energy, tonality = self.bands(power)
        return ((energy * torch.exp2(-TONAL * tonality)) @ spread + quiet) @ grouping.T

    def envelope(self, short: Tensor) -> Tensor:
        """Return the ratio of the threshold of each short block to that of its frame.

        Shape: short [*, 512], coefficients of short blocks -> [*, 16], the blocks of low, mid, high
        """
        factors = []
        for own, n_blocks, fading in zip(BANDS, N_BLOCKS, _FADING, strict=True):
            energy = (
                torch.unflatten(short[..., own].square(), -1, (n_blocks, SHORT_SIZE)).sum(-1) + SHORT_SIZE * _SILENCE
            )
            left = [energy[..., 0]]
            for block in energy.unbind(-1)[1:]:
                left.append(torch.maximum(block, fading * left[-1]))
            factors.append((torch.stack(left, -1) / energy.mean(-1, keepdim=True)) ** _MODULATION)
        return torch.cat(factors, -1)

    def within_frame(self, threshold: Tensor, envelope: Tensor) -> Tensor:
        """Return thresholds for the coefficients of short blocks.

        Shape: threshold [*, 512] of long blocks, envelope [*, 16] -> [*, 512]
        """
        return _blurred_to_blocks(threshold) * envelope.repeat_interleave(SHORT_SIZE, -1)


def check_exponent(exponent: float) -> float:
    """Return the exponent of a threshold. Raises: ValueError: it is not from 0 to 1."""
    if not 0 <= exponent <= 1:
        raise ValueError(f"exponent = {exponent}, allowed 0 to 1")
    return exponent


def where_short(bsm: Tensor, long: Tensor, short: Callable[[Any], Tensor]) -> Tensor:
    """Replace values of bands with short blocks, computing them only for frames that have some.

    Args:
        bsm: block size modes.
        long: values for bands with long blocks, by coefficient or by BFU.
        short: returns the values for bands with short blocks; it is given an index that selects frames of [*].

    Shape: bsm [*, 3], long [*, n] -> [*, n], n = 512 or 52
    """
    is_short = bsm.detach() > 0
    band = torch.as_tensor(BAND_OF_VALUE if long.shape[-1] == FRAME_SAMPLES else BFU_BANDS, device=bsm.device)
    if torch.compiler.is_compiling():
        return torch.where(is_short[..., band], short(...), long)
    rows = is_short.any(-1)
    if not rows.any():
        return long
    return long.index_put((rows,), torch.where(is_short[rows][:, band], short(rows), long[rows]))


def by_coefficient(per_band: Tensor) -> Tensor:
    """Give each coefficient the value of its band. Shape: [*, 3] -> [*, 512]."""
    return per_band[..., torch.as_tensor(BAND_OF_VALUE, device=per_band.device)]


def _blurred(energy: Tensor) -> Tensor:
    """Average energies of short blocks over the coefficients of a long block at the same frequencies.

    Shape: [*, 512] -> [*, 512]
    """
    parts = []
    for own, n_blocks in zip(BANDS, N_BLOCKS, strict=True):
        mean = torch.unflatten(energy[..., own], -1, (n_blocks, SHORT_SIZE)).mean(-2) / n_blocks
        parts.append(mean.repeat_interleave(n_blocks, -1))
    return torch.cat(parts, -1)


def _blurred_to_blocks(threshold: Tensor) -> Tensor:
    """Average thresholds of a long block over the coefficients of short blocks at the same frequencies.

    Shape: [*, 512] -> [*, 512]
    """
    parts = []
    for own, n_blocks in zip(BANDS, N_BLOCKS, strict=True):
        mean = torch.unflatten(threshold[..., own], -1, (SHORT_SIZE, n_blocks)).mean(-1)
        parts.append(mean.unsqueeze(-2).expand(*mean.shape[:-1], n_blocks, SHORT_SIZE).flatten(-2))
    return torch.cat(parts, -1)


def _hann_matrix(size: int) -> np.ndarray:
    """Return the matrix from a long block's coefficients to two quadratures of the windowed spectrum [size, 2 size].

    A DCT-IV gives the block's samples, aliased where blocks overlap; there the window is small. The power of white
    noise is kept.
    """
    n = np.arange(size)
    phase = np.pi / size * (n[:, None] + 0.5) * (n + 0.5)
    samples = np.sqrt(2 / size) * np.cos(phase)
    window = np.sin(np.pi * (n + 0.5) / size) ** 2
    window = window / np.sqrt(np.mean(window**2))
    return np.concatenate([(samples * window) @ function(phase) / np.sqrt(size) for function in (np.cos, np.sin)], 1)


def _ear() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the share of each coefficient in each band [512, n], the weights of the mean around each band [512, n],
    the share of each band's power that is masked in each other [n, n], and the energy just heard in each [n]."""
    spacing = SAMPLE_RATE / 2 / FRAME_SAMPLES
    low = spacing * np.arange(FRAME_SAMPLES)[:, None]
    edges = np.arange(0, 7 * np.arcsinh(SAMPLE_RATE / 2 / 650) + _WIDTH, _WIDTH)
    hertz = 650 * np.sinh(edges / 7)
    grouping = (np.minimum(low + spacing, hertz[1:]) - np.maximum(low, hertz[:-1])).clip(0) / spacing
    inside = (low + spacing > hertz[:-1] - _NEIGHBOURS * spacing) & (low < hertz[1:] + _NEIGHBOURS * spacing)
    near = inside / inside.sum(0)
    bark = (edges[1:] + edges[:-1]) / 2
    distance = bark - bark[:, None]  # from the masking to the masked band
    spread = 10 ** (-np.where(distance > 0, _UP * distance, -_DOWN * distance) / 10)
    k = 650 * np.sinh(bark / 7) / 1000
    quiet = 3.64 * k**-0.8 - 6.5 * np.exp(-0.6 * (k - 3.3) ** 2) + 0.001 * k**3.6
    return grouping, near, spread / spread.sum(1, keepdims=True), _FULL_SCALE * 10 ** ((quiet - _LOUDEST) / 10)
