"""MDCT: turns each band of each frame into coefficients, as one long block or several short ones.

    … ─qmf→ bands ─[ mdct ]→ spectrum;  bsm from transient

Blocks overlap by 32 samples whatever their size, so every band of every frame is free to be long or short. With S
samples of a band, S = 32 in short blocks, N the transform's length and w(i) = sin((i + 0.5) pi / 64):

    block = [0 …, w(i) last 32 samples before, samples with the last 32 falling, 0 …],  N = 512 (high), 256, 64 (short)
    X[k]  = (s / N) sum_n block[n] cos(2 pi / N (n + 1/2 + N / 4) (k + 1/2)),  s = 1 for 512, else 1/2

Short blocks in high are doubled. The coefficients of each block in mid and high are reversed, because the QMF mirrors
the spectrum of those bands. Source: [AES-3456]; [atracdenc] atrac1denc.cpp, mdct.h.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream.tables import BANDS, BSM_SHORT, N_BANDS, SHORT_SIZE
from atrac_modules.ordered_float import fft, fft_twiddles
from atrac_modules.stage import Stage, check_shapes, full_precision

OVERLAP: Final = 32
WINDOW: Final = np.sin((np.arange(OVERLAP) + 0.5) * np.pi / (2 * OVERLAP))
"""Rising half of the window [32]; the falling half is its mirror."""
TRANSFORM_SIZES: Final = (256, 256, 512)
"""N of a long block in each band."""
SHORT_TRANSFORM_SIZE: Final = 64
SCALES: Final = {512: 1.0, 256: 0.5, 64: 0.5}
"""s for each N."""
HIGH_SHORT_GAIN: Final = 2.0


class Mdct(Stage):
    """Transforms bands to coefficients.

    Shape:  bands [*, F, 512], bsm [*, F, 3] -> spectrum [*, F, 512]
    Dtype:  float32 or float64, kept; bsm whole numbers in any dtype
    Raises: ShapeError: the last dimensions are not [F, 512] and [F, 3].

    Samples before the first frame count as zero.
    """

    @abstractmethod
    def forward(self, bands: Tensor, bsm: Tensor) -> Tensor:
        """Transform `bands`, each band of each frame long or short as `bsm` says."""


@final
class ReferenceMdct(Mdct):
    """Windows, folding and transform of a block as one matrix.

    When bsm needs a gradient, both transforms are computed and
    spectrum = long + (short - long) bsm / (mode of short blocks), whose forward value is the chosen one.

    Differs: sums in another order than the reference codec, within 2e-7 of it at full scale.

    Example:
        >>> ReferenceMdct()(torch.zeros(4, 512), torch.zeros(4, 3)).shape
        torch.Size([4, 512])
    """

    def __init__(self) -> None:
        super().__init__()
        for band in range(N_BANDS):
            n, short = TRANSFORM_SIZES[band], SHORT_TRANSFORM_SIZE
            gain = HIGH_SHORT_GAIN if band == 2 else 1.0
            self.add_table(f"long{band}", SCALES[n] / n * lapped_matrix(n, reverse=band > 0))
            self.add_table(f"short{band}", gain * SCALES[short] / short * lapped_matrix(short, reverse=band > 0))

    @full_precision
    def forward(self, bands: Tensor, bsm: Tensor) -> Tensor:
        """Transform `bands`, each band of each frame long or short as `bsm` says."""
        check_shapes(bands=bands, bsm=bsm)
        return _transform(bands, bsm, self.get_buffer)

    def both(self, bands: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Transform frames, given the one before each, by long blocks and by short ones.

        Shape: bands, before [*, 512] -> [*, 512], [*, 512]
        """
        kinds: tuple[list[Tensor], list[Tensor]] = [], []
        for index, own in enumerate(BANDS):
            samples = torch.cat([before[..., own][..., -OVERLAP:], bands[..., own]], -1)
            kinds[0].append(samples @ self.get_buffer(f"long{index}").to(bands.dtype))
            kinds[1].append(_transform_short(samples, self.get_buffer(f"short{index}").to(bands.dtype)))
        return torch.cat(kinds[0], -1), torch.cat(kinds[1], -1)


@final
class NeuralMdct(Mdct):
    """A learned matrix in place of window, folding and transform, for long and short blocks of each band.

    The samples that a block sees and the choice by `bsm` are built in; the 120,832 weights are learned. The slope
    of bsm is that of `ReferenceMdct`.

    Example:
        >>> NeuralMdct()(torch.zeros(4, 512), torch.zeros(4, 3)).shape
        torch.Size([4, 512])
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        for band, n in enumerate(TRANSFORM_SIZES):
            for name, size in ((f"long{band}", n // 2), (f"short{band}", SHORT_SIZE)):
                shape = (OVERLAP + size, size)
                self.register_parameter(name, nn.Parameter(torch.randn(shape) / shape[0]))

    @full_precision
    def forward(self, bands: Tensor, bsm: Tensor) -> Tensor:
        """Transform `bands`, each band of each frame long or short as `bsm` says."""
        check_shapes(bands=bands, bsm=bsm)
        return _transform(bands, bsm, self.get_parameter)


def _transform(bands: Tensor, bsm: Tensor, matrix: Callable[[str], Tensor]) -> Tensor:
    """Transform each band by the matrices `long0` .. `short2`."""
    spectrum = []
    for index, own in enumerate(BANDS):
        band = bands[..., own]
        tail = pad(band[..., -OVERLAP:], (0, 0, 1, 0))[..., :-1, :]
        samples = torch.cat([tail, band], -1)
        long, short = (matrix(f"{name}{index}").to(band.dtype) for name in ("long", "short"))

        share = bsm[..., index] / BSM_SHORT[index]
        spectrum.append(choose_block(samples @ long, share, samples, partial(_transform_short, matrix=short)))
    return torch.cat(spectrum, -1)


def _transform_short(samples: Tensor, matrix: Tensor) -> Tensor:
    """Transform a band, with the overlap before it, by short blocks. Shape: [*, 32 + n], [64, 32] -> [*, n]."""
    windows = samples.unfold(-1, 2 * SHORT_SIZE, SHORT_SIZE)
    # As one product: windows that overlap would be multiplied frame by frame.
    return (windows.reshape(-1, 2 * SHORT_SIZE) @ matrix).view(*windows.shape[:-2], -1)


@final
class BitExactMdct(Mdct):
    """The reference codec's order of float32 operations: its folding, its twiddles, KissFFT's transform.

    No gradient. Dtype: float32.
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.tensor(WINDOW, dtype=torch.float32), persistent=False)
        for n, scale in SCALES.items():
            turn, twiddles = transform_tables(n, scale)
            self.register_buffer(f"turn{n}", turn, persistent=False)
            self.register_buffer(f"twiddles{n}", twiddles, persistent=False)

    @torch.no_grad()
    def forward(self, bands: Tensor, bsm: Tensor) -> Tensor:
        """Transform `bands`, each band of each frame long or short as `bsm` says."""
        check_shapes(bands=bands, bsm=bsm)
        return torch.cat([self._transform(bands[..., s].float(), bsm[..., b], b) for b, s in enumerate(BANDS)], -1)

    def _transform(self, band: Tensor, bsm: Tensor, index: int) -> Tensor:
        tail = pad(band[..., -OVERLAP:], (0, 0, 1, 0))[..., :-1, :]
        samples = torch.cat([tail, band], -1)

        def short(x: Tensor) -> Tensor:
            blocks = self._block(x.unfold(-1, 2 * SHORT_SIZE, SHORT_SIZE), SHORT_TRANSFORM_SIZE, index)
            return (blocks * (HIGH_SHORT_GAIN if index == 2 else 1.0)).flatten(-2)

        return choose_block(self._block(samples, TRANSFORM_SIZES[index], index), bsm, samples, short)

    def _block(self, samples: Tensor, n: int, index: int) -> Tensor:
        """Transform blocks given as 32 samples before and their own: [*, 32 + n / 2] -> [*, n / 2]."""
        windowed = torch.cat(
            [
                samples[..., :OVERLAP] * self.window,
                samples[..., OVERLAP:-OVERLAP],
                samples[..., -OVERLAP:] * self.window.flip(-1),
            ],
            -1,
        )
        start = n // 4 - OVERLAP // 2
        block = pad(windowed, (start, n - start - windowed.shape[-1]))
        # Folded by the symmetries of the cosine to n / 4 complex numbers, turned, transformed, turned again.
        a, b, c, d = block.chunk(4, -1)
        real = torch.cat([c.flip(-1) + d, b.flip(-1) - a], -1)[..., ::2]
        imaginary = torch.cat([b - a.flip(-1), c + d.flip(-1)], -1)[..., ::2]
        cosine, sine = self.get_buffer(f"turn{n}")
        real, imaginary = fft(
            real * cosine + imaginary * sine,
            imaginary * cosine - real * sine,
            self.get_buffer(f"twiddles{n}"),
        )
        even = -real * cosine - imaginary * sine
        odd = -real * sine + imaginary * cosine
        spectrum = torch.stack([even, odd.flip(-1)], -1).flatten(-2)
        return spectrum.flip(-1) if index else spectrum


def lapped_matrix(n: int, reverse: bool) -> NDArray[np.float64]:
    """Return window and cosines of a block as one matrix [32 + n / 2, n / 2]; the inverse uses its transpose.

    Args:
        n: the transform's length, 64, 256 or 512.
        reverse: put the coefficients in reverse, as in mid and high.
    """
    size = n // 2
    time = np.arange(OVERLAP + size) + n // 4 - OVERLAP // 2
    angle = 2 * np.pi / n * np.outer(time + 0.5 + n / 4, np.arange(size) + 0.5)
    window = np.concatenate([WINDOW, np.ones(size - OVERLAP), WINDOW[::-1]])
    matrix = window[:, None] * np.cos(angle)
    return matrix[:, ::-1] if reverse else matrix


def transform_tables(n: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return the float32 turning factors [2, n / 4] and FFT twiddles [2, n / 4] of a transform of length n.

    The factors are sqrt(scale / n) times cosine and sine, as the C library's float32 functions give them: six of
    these are not correctly rounded, and are listed in `_C_LIBRARY`.
    """
    step, start = np.float32(2 * np.pi / n), np.float32(2 * np.pi / (8 * n))
    angle = (step * np.arange(n // 4, dtype=np.float32) + start).astype(np.float64)
    table = np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    for row, column, value in _C_LIBRARY.get(n, ()):
        table[row, column] = value
    turn = np.sqrt(np.float32(scale) / np.float32(n)) * table
    return torch.from_numpy(turn), torch.from_numpy(fft_twiddles(n // 4))


_C_LIBRARY: Final = {
    512: [(1, 41, 0.48352706), (0, 71, 0.64265704), (0, 76, 0.59446645)],
    256: [(1, 23, 0.53758705), (0, 44, 0.46868873)],
    64: [(0, 13, 0.27851963)],
}
"""(0 cosine or 1 sine, index, float32 value) where glibc's cosf and sinf differ from rounding the true value."""


def choose_block(long: Tensor, share: Tensor, source: Tensor, short: Callable[[Tensor], Tensor]) -> Tensor:
    """Take `long` where `share` is 0 and `short(source)` where it is 1, frame by frame.

    Short blocks are rare, so without a gradient for `share` only the chosen ones are computed (all of them while a
    graph is captured). With one, its slope is the difference between the two.

    Shape: long [*, F, n], share [*, F], source [*, F, m] -> [*, F, n]
    """
    chosen = share > 0
    if not share.requires_grad:
        if torch.compiler.is_compiling():
            return torch.where(chosen.unsqueeze(-1), short(source), long)
        return long.index_put((chosen,), short(source[chosen])) if chosen.any() else long
    both = short(source)
    slope = (share - share.detach()).unsqueeze(-1) * (both - long).detach()
    return torch.where(chosen.unsqueeze(-1), both, long) + slope
