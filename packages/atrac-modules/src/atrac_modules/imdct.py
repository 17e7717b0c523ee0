"""Inverse MDCT: turns coefficients back into bands; the aliasing of neighbouring blocks cancels in their overlap.

    … ─dequantizer→ spectrum ─[ imdct ]→ bands ─iqmf→ …;  bsm from the sound unit

    y[n] = 2 sum_k X[k] cos(2 pi / N (n + 1/2 + N / 4) (k + 1/2)), windowed as in the MDCT, overlapped and added

Source: [AES-3456]; [atracdenc] atrac1denc.cpp, mdct.h.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import BANDS, BSM_SHORT, N_BANDS, SHORT_SIZE
from atrac_modules.mdct import (
    OVERLAP,
    SCALES,
    SHORT_TRANSFORM_SIZE,
    TRANSFORM_SIZES,
    WINDOW,
    choose_block,
    lapped_matrix,
    transform_tables,
)
from atrac_modules.ordered_float import fft
from atrac_modules.stage import Stage, check_shapes, full_precision

GAIN: Final = 2.0


class Imdct(Stage):
    """Transforms coefficients back to bands.

    Shape:  spectrum [*, F, 512], bsm [*, F, 3] -> bands [*, F, 512]
    Dtype:  float32 or float64, kept; bsm whole numbers in any dtype
    Raises: ShapeError: the last dimensions are not [F, 512] and [F, 3].

    The overlap before the first frame counts as zero. The MDCT and its inverse together delay each band by 32 of its
    samples and scale low and mid by 1/4, high by 1/2, which undoes the gain of the QMF.
    """

    @abstractmethod
    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Transform `spectrum`, each band of each frame long or short as `bsm` says."""


@final
class ReferenceImdct(Imdct):
    """Transform and windows of a block as one matrix; blocks are overlapped and added.

    When bsm needs a gradient, both transforms are computed and
    bands = long + (short - long) bsm / (mode of short blocks), whose forward value is the chosen one.

    Differs: sums in another order than the reference codec.

    Example:
        >>> ReferenceImdct()(torch.zeros(4, 512), torch.zeros(4, 3)).shape
        torch.Size([4, 512])
    """

    def __init__(self) -> None:
        super().__init__()
        for band in range(N_BANDS):
            for name, n in (("long", TRANSFORM_SIZES[band]), ("short", SHORT_TRANSFORM_SIZE)):
                self.add_table(f"{name}{band}", GAIN * lapped_matrix(n, reverse=band > 0).T)

    @full_precision
    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Transform `spectrum`, each band of each frame long or short as `bsm` says."""
        check_shapes(spectrum=spectrum, bsm=bsm)
        return _transform(spectrum, bsm, self.get_buffer)


@final
class NeuralImdct(Imdct):
    """A learned matrix in place of transform and windows, for long and short blocks of each band.

    The places of a block's samples, overlap and add, and the choice by `bsm` are built in; the 120,832 weights are
    learned. The slope of bsm is that of `ReferenceImdct`.

    Example:
        >>> NeuralImdct()(torch.zeros(4, 512), torch.zeros(4, 3)).shape
        torch.Size([4, 512])
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        for band, n in enumerate(TRANSFORM_SIZES):
            for name, size in ((f"long{band}", n // 2), (f"short{band}", SHORT_SIZE)):
                weights = torch.randn(size, size + OVERLAP)
                self.register_parameter(name, nn.Parameter(weights / size**0.5))

    @full_precision
    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Transform `spectrum`, each band of each frame long or short as `bsm` says."""
        check_shapes(spectrum=spectrum, bsm=bsm)
        return _transform(spectrum, bsm, self.get_parameter)


def _transform(spectrum: Tensor, bsm: Tensor, matrix: Callable[[str], Tensor]) -> Tensor:
    """Transform each band by the matrices `long0` .. `short2`."""
    bands = []
    for index, own in enumerate(BANDS):
        band = spectrum[..., own]
        long, short = (matrix(f"{name}{index}").to(band.dtype) for name in ("long", "short"))

        def transform_short(x: Tensor, short: Tensor = short) -> Tensor:
            blocks = torch.unflatten(x, -1, (-1, SHORT_SIZE)) @ short
            first, second = torch.split(blocks, SHORT_SIZE, -1)
            return pad(first.flatten(-2), (0, OVERLAP)) + pad(second.flatten(-2), (OVERLAP, 0))

        blocks = choose_block(band @ long, bsm[..., index] / BSM_SHORT[index], band, transform_short)
        bands.append(overlap_add(blocks))
    return torch.cat(bands, -1)


@final
class BitExactImdct(Imdct):
    """The reference codec's order of float32 operations: its twiddles, KissFFT's transform, its overlap.

    No gradient. Dtype: float32.
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.tensor(WINDOW, dtype=torch.float32), persistent=False)
        for n in SCALES:
            turn, twiddles = transform_tables(n, n)
            self.register_buffer(f"turn{n}", turn, persistent=False)
            self.register_buffer(f"twiddles{n}", twiddles, persistent=False)

    @torch.no_grad()
    def forward(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Transform `spectrum`, each band of each frame long or short as `bsm` says."""
        check_shapes(spectrum=spectrum, bsm=bsm)
        spectrum = spectrum.float()
        return torch.cat([self._transform(spectrum[..., s], bsm[..., b], b) for b, s in enumerate(BANDS)], -1)

    def _transform(self, band: Tensor, bsm: Tensor, index: int) -> Tensor:
        half = OVERLAP // 2

        def short(x: Tensor) -> Tensor:
            blocks = self._block(torch.unflatten(x, -1, (-1, SHORT_SIZE)), index)
            joined = self._overlap(blocks[..., :-1, -half:], blocks[..., 1:, :half])
            return torch.cat([blocks[..., 0, :half], joined.flatten(-2), blocks[..., -1, -half:]], -1)

        # Each frame without its first overlap: 16 unwindowed samples, the middle, 16 unwindowed samples.
        frames = choose_block(self._block(band, index), bsm, band, short)
        before = pad(frames[..., -half:], (0, 0, 1, 0))[..., :-1, :]
        return torch.cat([self._overlap(before, frames[..., :half]), frames[..., half:-half]], -1)

    def _block(self, coefficients: Tensor, index: int) -> Tensor:
        """Transform blocks to the middle half of their time, not windowed: [*, n / 2] -> [*, n / 2]."""
        n = 2 * coefficients.shape[-1]
        if index:
            coefficients = coefficients.flip(-1)
        real, imaginary = coefficients[..., ::2], coefficients[..., 1::2].flip(-1)
        cosine, sine = self.get_buffer(f"turn{n}")
        real, imaginary = fft(
            -2 * (imaginary * sine + real * cosine),
            -2 * (imaginary * cosine - real * sine),
            self.get_buffer(f"twiddles{n}"),
        )
        even = real * sine - imaginary * cosine
        odd = real * cosine + imaginary * sine
        return torch.stack([even, odd.flip(-1)], -1).flatten(-2)

    def _overlap(self, before: Tensor, after: Tensor) -> Tensor:
        """Window and add the last 16 samples of a block and the first 16 of the next: -> [*, 32]."""
        rising, falling = self.window[: OVERLAP // 2], self.window.flip(-1)[: OVERLAP // 2]
        after = after.flip(-1)
        first = before * falling - after * rising
        second = before * rising + after * falling
        return torch.cat([first, second.flip(-1)], -1)


def overlap_add(blocks: Tensor) -> Tensor:
    """Add the last 32 values of each frame to the first 32 of the next: [*, F, n + 32] -> [*, F, n]."""
    tails = pad(blocks[..., -OVERLAP:], (0, 0, 1, 0))[..., :-1, :]
    return torch.cat([blocks[..., :OVERLAP] + tails, blocks[..., OVERLAP:-OVERLAP]], -1)
