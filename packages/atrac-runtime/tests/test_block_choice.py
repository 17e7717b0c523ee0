from __future__ import annotations

import numpy as np

from atrac_bitstream import tables as t
from atrac_runtime.kernels.block_choice import choose_blocks


def test_each_band_has_the_blocks_that_need_less():
    generator = np.random.default_rng(4)
    noise = generator.standard_normal((70, 512)) * 0.01
    sparse = noise * (generator.random((70, 512)) < 0.03) * 4  # as loud, in few coefficients: cheap to code
    cheap_short = generator.random((70, 3)) < 0.5
    by_value = cheap_short[:, t.BAND_OF_VALUE]
    spectra = tuple(np.where(by_value ^ kind, noise, sparse).astype(np.float32) for kind in (False, True))
    idsf = tuple(np.full((70, 52), 57, np.int32) for _ in spectra)
    # A coefficient of n short blocks carries 1 / n of the energy that one of a long block carries.
    boost = np.log2(1 << np.array(t.BSM_SHORT))[t.BFU_BANDS].astype(np.float32)
    importance = np.zeros((70, 52), np.float32), np.tile(boost, (70, 1))
    chosen = choose_blocks(spectra, idsf, importance)
    assert chosen.dtype == bool
    np.testing.assert_array_equal(chosen, cheap_short)
