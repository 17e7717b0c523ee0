from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_modules import BitExactMdct, Mdct, NeuralMdct, ReferenceImdct, ReferenceMdct
from atrac_modules.mdct import WINDOW

STAGES = [ReferenceMdct, BitExactMdct, NeuralMdct]
BANDS = [(0, 128), (128, 256), (256, 512)]


@pytest.mark.parametrize("stage", STAGES)
def test_mdct_keeps_the_contract(stage: type[Mdct], build, keeps_contract, random_bsm, generator):
    keeps_contract(build(stage), (torch.rand(3, 6, 512, generator=generator), random_bsm(3, 6)), ((6, 512),))


@pytest.mark.parametrize("modes", [(0, 0, 0), (2, 2, 3), (0, 2, 3), (2, 0, 0)])
def test_mdct_matches_the_formula(modes: tuple[int, int, int], in_float64, generator):
    bands = torch.rand(2, 512, generator=generator, dtype=torch.float64)
    slow = np.zeros(512)
    for (start, stop), mode in zip(BANDS, modes, strict=True):
        x = np.concatenate([bands[0, stop - 32 : stop], bands[1, start:stop]])
        size = 32 if mode else stop - start
        n, scale = 2 * size, 1.0 if size == 256 else 0.5
        window = np.concatenate([WINDOW, np.ones(size - 32), WINDOW[::-1]])
        time, index = np.arange(32 + size) + n // 4 - 16, np.arange(size)
        cosines = np.cos(2 * np.pi / n * np.outer(time + 0.5 + n / 4, index + 0.5))
        for first in range(0, stop - start, size):
            out = (window * x[first : first + 32 + size]) @ cosines * scale / n * (2 if mode == 3 else 1)
            slow[start + first : start + first + size] = out[::-1] if start else out
    spectrum = ReferenceMdct()(bands, torch.tensor(modes, dtype=torch.float64).expand(2, 3))
    torch.testing.assert_close(spectrum[1], torch.from_numpy(slow), rtol=0, atol=1e-12)


def test_block_modes_are_independent_between_frames_and_bands(generator, random_bsm):
    bands = torch.rand(8, 512, generator=generator)
    modes = random_bsm(8)
    mixed = ReferenceMdct()(bands, modes)
    long, short = (ReferenceMdct()(bands, m.expand(8, 3)) for m in (torch.zeros(3), torch.tensor([2.0, 2.0, 3.0])))
    for band, (start, stop) in enumerate(BANDS):
        want = torch.where(modes[:, band, None] > 0, short[:, start:stop], long[:, start:stop])
        torch.testing.assert_close(mixed[:, start:stop], want, rtol=0, atol=1e-7)


def test_mdct_and_imdct_give_every_band_back_at_every_switch(in_float64, generator, random_bsm):
    bands = torch.rand(40, 512, generator=generator, dtype=torch.float64) - 0.5
    bsm = random_bsm(40, dtype=torch.float64)
    back = ReferenceImdct()(ReferenceMdct()(bands, bsm), bsm)
    for (start, stop), gain in zip(BANDS, (1 / 4, 1 / 4, 1 / 2), strict=True):
        sent, got = bands[:, start:stop].flatten(), back[:, start:stop].flatten()
        torch.testing.assert_close(got[32:], gain * sent[:-32], rtol=0, atol=1e-12)
