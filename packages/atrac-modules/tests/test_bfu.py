from __future__ import annotations

import pytest
import torch

from atrac_bitstream.tables import BFU_BANDS, BFU_OFFSETS, BFU_SIZES, BFU_STARTS_SHORT
from atrac_modules import BfuLayout
from atrac_modules.bfu import carries


def slow_places(bsm: list[float]) -> list[list[int]]:
    """Return the coefficients of each BFU, straight from the tables."""
    starts = [BFU_STARTS_SHORT[b] if bsm[BFU_BANDS[b]] else BFU_OFFSETS[b] for b in range(52)]
    return [list(range(start, start + size)) for start, size in zip(starts, BFU_SIZES)]


@pytest.mark.parametrize("modes", [(0, 0, 0), (2, 2, 3), (0, 2, 0), (2, 0, 3)])
def test_layout_matches_the_tables(modes, generator):
    layout, bsm = BfuLayout(), torch.tensor(modes, dtype=torch.float32)
    spectrum, per_bfu = torch.randn(512, generator=generator), torch.randn(52, generator=generator)
    places = slow_places(list(modes))
    grouped = torch.cat([spectrum[p] for p in places])
    assert torch.equal(layout.group(spectrum, bsm), grouped)
    assert torch.equal(layout.ungroup(grouped, bsm), spectrum)
    assert torch.equal(layout.maximum(spectrum, bsm), torch.stack([spectrum[p].abs().max() for p in places]))
    torch.testing.assert_close(layout.sum(spectrum, bsm), torch.stack([spectrum[p].sum() for p in places]))
    torch.testing.assert_close(layout.mean(spectrum, bsm), torch.stack([spectrum[p].mean() for p in places]))
    expanded = layout.expand(per_bfu, bsm)
    for bfu, place in enumerate(places):
        assert (expanded[place] == per_bfu[bfu]).all()


def test_frames_of_a_batch_have_their_own_layout(generator, random_bsm):
    layout, bsm, spectrum = BfuLayout(), random_bsm(2, 9), torch.randn(2, 9, 512, generator=generator)
    grouped = layout.group(spectrum, bsm)
    for k in range(2):
        for f in range(9):
            assert torch.equal(grouped[k, f], layout.group(spectrum[k, f], bsm[k, f]))
    assert layout.bsm_of_bfu(bsm).shape == (2, 9, 52)


def test_rows_are_given_to_the_coefficients_of_their_bfu(generator, random_bsm):
    layout, bsm, rows = BfuLayout(), random_bsm(6), torch.randn(6, 52, 3, generator=generator)
    expected = torch.stack([layout.expand(rows[..., k], bsm) for k in range(3)], -1)
    assert torch.equal(layout.expand_rows(rows, bsm), expected)


def test_the_first_bfus_are_carried():
    assert carries(torch.tensor([20, 52])).sum(-1).tolist() == [20, 52]
    assert carries(torch.tensor(28))[:28].all()
