"""Block choice: for each band of a sound unit, the kind of blocks with the smaller Lagrangian, distortion + λ · rate.

λ is that of the search at which the whole sound unit fits, found first with long blocks and then with those that were
chosen.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import tables as t
from atrac_runtime.kernels.compiled import kernel
from atrac_runtime.kernels.distortion import BLOCK, Float, Integer, measure, new_block, prepare
from atrac_runtime.kernels.search import find_log2_lam, guess, minimise_lagrangian

PASSES: Final = 2
"""How often λ is found and the choice made anew."""
_BAND_OF_BFU: Final = np.asarray(t.BFU_BANDS, np.int64)
_N_BFU: Final = t.N_BFU_MAX


def choose_blocks(
    spectrum: tuple[Float, Float], idsf: tuple[Integer, Integer], importance: tuple[Float, Float]
) -> NDArray[np.bool_]:
    """Choose long or short blocks for every band of sound units.

    Args:
        spectrum, idsf, importance: of all bands with long blocks, and of all with short ones; see
            `search.allocate_by_importance`.

    Returns:
        Which bands have short blocks.

    Shape: spectrum [N, 512], idsf, importance [N, 52] -> [N, 3]
    """
    short = np.zeros((len(spectrum[0]), t.N_BANDS), np.bool_)
    _choose(*spectrum, *idsf, *importance, np.array(t.BSM_SHORT, np.int32), short)
    return short


@kernel
def _choose(
    long: Float,
    short: Float,
    idsf_long: Integer,
    idsf_short: Integer,
    importance_long: Float,
    importance_short: Float,
    modes: Integer,
    chosen: NDArray[np.bool_],
) -> None:
    blocks, mixed = (new_block(), new_block()), new_block()
    bsm = np.zeros((BLOCK, t.N_BANDS), np.int32)
    highest, log2_lam = np.zeros(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bounds, number = np.empty((len(t.BFU_AMOUNTS), BLOCK), np.float32), np.zeros(BLOCK, np.int64)
    for first in range(0, len(long), BLOCK):
        count = min(BLOCK, len(long) - first)
        for j in range(count):
            highest[j] = max(importance_long[first + j].max(), importance_short[first + j].max())
        bsm[:] = 0
        prepare(blocks[0], long[first:], idsf_long[first:], bsm, importance_long[first:], highest, count)
        bsm[:] = modes
        prepare(blocks[1], short[first:], idsf_short[first:], bsm, importance_short[first:], highest, count)
        measure(blocks[0])
        measure(blocks[1])
        guess(blocks[0], log2_lam)
        for _ in range(PASSES):
            for bfu in range(_N_BFU):
                for j in range(count):
                    kind = 1 if chosen[first + j, _BAND_OF_BFU[bfu]] else 0
                    mixed.distortion[:, bfu, j] = blocks[kind].distortion[:, bfu, j]
            bounds[:] = -np.inf
            find_log2_lam(mixed, log2_lam, bounds, number, False)
            minimise_lagrangian(blocks[0], log2_lam)
            minimise_lagrangian(blocks[1], log2_lam)
            for j in range(count):
                gain = np.zeros(t.N_BANDS, np.float32)
                for bfu in range(_N_BFU):
                    gain[_BAND_OF_BFU[bfu]] += blocks[0].least[bfu, j] - blocks[1].least[bfu, j]
                chosen[first + j] = gain > 0
