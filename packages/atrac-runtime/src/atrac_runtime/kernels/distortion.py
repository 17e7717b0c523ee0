"""Distortion: the weighted squared error of each BFU for every word length and several scale factors, by quantizing it.

    spectrum, idsf, bsm, importance ─prepare→ Block ─measure→ its distortion and offset

Sound units are taken by blocks of 64 and come last, so that the inner loops run over units and are vectorized, and no
result depends on how many units come together.

Shape: B units of a block; values [512, B], what belongs to BFUs [52, B], distortion [16, 52, B] by word length index.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import tables as t
from atrac_runtime.kernels.compiled import kernel

Float = NDArray[np.float32]
Integer = NDArray[np.int32]

BLOCK: Final = 64
"""Sound units that are searched together: their values fit into the cache."""
OFFSETS: Final = np.array([[0, 0, 0], [-2, -1, -3], [-1, 0, 1], *[[0, -1, 1]] * 13])
"""Changes of a scale factor index that are tried, from the smallest scale factor that covers its BFU, for each IDWL
[16, 3].

With few levels it pays to clip the largest values. Of all changes from -3 to 2 one of these is the best in 96 cases of
100; the others gain 0.1 dB or less (measured)."""
LEAST_IMPORTANCE: Final = -80.0
"""log2 of the least importance relative to the largest, so that float32 holds all of them."""

_WORDS: Final = t.WORD_LENGTHS.astype(np.int64)
_LEVELS: Final = np.where(_WORDS > 0, 2.0 ** (_WORDS - 1) - 1, 0).astype(np.float32)
_STARTS: Final = np.append(0, np.cumsum(t.BFU_SIZES))
_FACTORS: Final = t.SCALE_FACTORS.astype(np.float32)
_BAND_OF_BFU: Final = np.asarray(t.BFU_BANDS, np.int64)
_SHORT_ORDER: Final = np.asarray(t.SHORT_ORDER, np.int64)
_N_BFU: Final = t.N_BFU_MAX
_LONGEST: Final = t.IDWL_MAX
_N_AMOUNTS: Final = len(t.BFU_AMOUNTS)
_INFINITE: Final = np.float32(np.inf)


class Block(NamedTuple):
    """What the search of a block of sound units works on.

    Args:
        values: magnitudes of the coefficients over their scale factors, in bitstream order [512, B].
        idsf: scale factor index of each BFU [52, B].
        weight: weight of a squared error of the values [52, B].
        distortion: weighted squared error of each word length, with the best scale factor [16, 52, B].
        offset: change of the scale factor index for each word length [16, 52, B].
        left_out: distortion of all BFUs from each number of BFUs on [8, B].
        least: minimum of distortion + λ · rate of each BFU [52, B].
        rate: bits of each BFU there [52, B].
    """

    values: Float
    idsf: Integer
    weight: Float
    distortion: Float
    offset: Integer
    left_out: Float
    least: Float
    rate: Float


@kernel
def new_block() -> Block:
    """Return arrays for a block of sound units."""
    return Block(
        np.zeros((t.FRAME_SAMPLES, BLOCK), np.float32),
        np.zeros((_N_BFU, BLOCK), np.int32),
        np.zeros((_N_BFU, BLOCK), np.float32),
        np.zeros((_LONGEST + 1, _N_BFU, BLOCK), np.float32),
        np.zeros((_LONGEST + 1, _N_BFU, BLOCK), np.int32),
        np.zeros((_N_AMOUNTS, BLOCK), np.float32),
        np.zeros((_N_BFU, BLOCK), np.float32),
        np.zeros((_N_BFU, BLOCK), np.float32),
    )


@kernel
def prepare(
    block: Block, spectrum: Float, idsf: Integer, bsm: Integer, importance: Float, highest: Float, count: int
) -> None:
    """Divide coefficients by their scale factors and sum their squares, with the sound units last.

    Sets values, index, weight, and the distortion without bits. What a block holds beyond `count` units is silence.

    Args:
        importance: log2 of the weight of a squared error, from which `highest` is subtracted.
        highest: the largest importance of each unit [B].
    """
    for j in range(count):
        for bfu in range(_N_BFU):
            mode = bsm[j, _BAND_OF_BFU[bfu]]
            factor = _FACTORS[idsf[j, bfu]]
            energy = np.float32(0)
            for i in range(_STARTS[bfu], _STARTS[bfu + 1]):
                value = abs(spectrum[j, _SHORT_ORDER[i] if mode > 0 else i]) / factor
                block.values[i, j] = value
                energy += value * value
            # A coefficient of n short blocks carries 1 / n of the energy that one of a long block carries.
            share = factor * factor / np.float32(1 << mode)
            weight = np.float32(2.0 ** max(importance[j, bfu] - highest[j], LEAST_IMPORTANCE)) * share
            block.idsf[bfu, j], block.weight[bfu, j] = idsf[j, bfu], weight
            block.distortion[0, bfu, j] = weight * energy
    block.values[:, count:] = 0
    block.idsf[:, count:] = 0
    block.weight[:, count:] = 0
    block.distortion[0, :, count:] = 0


@kernel
def measure(block: Block) -> None:
    """Quantize every BFU with every word length, and keep for each the scale factor with the least error."""
    units = block.values.shape[1]
    error = np.empty(units, np.float32)
    for bfu in range(_N_BFU):
        for word in range(1, _LONGEST + 1):
            distortion, offset, levels = block.distortion[word, bfu], block.offset[word, bfu], _LEVELS[word]
            distortion[:] = _INFINITE
            offset[:] = 0
            for move in OFFSETS[word]:
                steps = np.float32(levels * 2.0 ** (-move / 3))
                step = 1 / (steps * steps)
                error[:] = 0
                for i in range(_STARTS[bfu], _STARTS[bfu + 1]):
                    for j in range(units):
                        exact = block.values[i, j] * steps
                        difference = exact - min(np.rint(exact), levels)
                        error[j] += difference * difference
                for j in range(units):
                    tried = error[j] * step * block.weight[bfu, j]
                    moved = block.idsf[bfu, j] + move
                    better = (moved >= 0) & (moved <= t.IDSF_MAX) & (tried < distortion[j])
                    distortion[j] = tried if better else distortion[j]
                    offset[j] = move if better else offset[j]
