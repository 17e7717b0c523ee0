"""Block floating units as tensor operations: group coefficients by BFU, expand values of BFUs to coefficients.

The 512 coefficients have two orders: spectrum order, frequency ascending, and bitstream order, BFU after BFU. They are
the same in long bands and a permutation within the band in short ones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from atrac_bitstream import tables as t

BFU_RUNS = [(8, 4), (4, 4), (8, 4), (6, 8), (6, 4), (7, 4), (9, 4), (10, 4), (12, 8), (20, 8)]
"""(coefficients in a BFU, number of neighbouring BFUs of that size)."""
assert [size for size, count in BFU_RUNS for _ in range(count)] == t.BFU_SIZES.tolist()


class BfuLayout(nn.Module):
    """The map between coefficients and the 52 BFUs, by block size mode.

    Example:
        >>> layout, bsm = BfuLayout(), torch.tensor([0, 2, 0])
        >>> layout.expand(torch.arange(52.0), bsm)[[0, 8, 128, 134, 160]]
        tensor([ 0.,  1., 20., 24., 21.])
    """

    def __init__(self) -> None:
        super().__init__()
        for name, table in {
            "band_of_value": t.BAND_OF_VALUE,
            "band_of_bfu": t.BFU_BANDS,
            "sizes": t.BFU_SIZES,
            "short_order": t.SHORT_ORDER,
            "short_inverse": np.argsort(t.SHORT_ORDER),
            "bfu_of_value": t.BFU_OF_VALUE,
        }.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(table)), persistent=False)

    def group(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Bring coefficients from spectrum to bitstream order. Shape: [*, 512], bsm [*, 3] -> [*, 512]."""
        return self._permute(spectrum, bsm, self.get_buffer("short_order"))

    def ungroup(self, values: Tensor, bsm: Tensor) -> Tensor:
        """Bring coefficients from bitstream to spectrum order. Shape: [*, 512], bsm [*, 3] -> [*, 512]."""
        return self._permute(values, bsm, self.get_buffer("short_inverse"))

    def expand(self, per_bfu: Tensor, bsm: Tensor) -> Tensor:
        """Give each coefficient, in spectrum order, the value of its BFU. Shape: [*, 52], bsm [*, 3] -> [*, 512]."""
        return self.ungroup(per_bfu.index_select(-1, self.get_buffer("bfu_of_value")), bsm)

    def expand_rows(self, per_bfu: Tensor, bsm: Tensor) -> Tensor:
        """Do the same as `expand` with a row for each BFU. Shape: [n, 52, m], bsm [n, 3] -> [n, 512, m]."""
        bfu = self.expand(torch.arange(t.N_BFU_MAX, device=per_bfu.device).expand(per_bfu.shape[:-1]), bsm)
        return per_bfu.gather(-2, bfu.unsqueeze(-1).expand(*bfu.shape, per_bfu.shape[-1]))

    def maximum(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return the largest magnitude in each BFU. Shape: [*, 512], bsm [*, 3] -> [*, 52]."""
        return reduce_bfus(self.group(spectrum.abs(), bsm), lambda x: x.amax(-1))

    def sum(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return the sum over each BFU. Shape: [*, 512], bsm [*, 3] -> [*, 52]."""
        return reduce_bfus(self.group(spectrum, bsm), lambda x: x.sum(-1))

    def mean(self, spectrum: Tensor, bsm: Tensor) -> Tensor:
        """Return the mean over each BFU. Shape: [*, 512], bsm [*, 3] -> [*, 52]."""
        return self.sum(spectrum, bsm) / self.get_buffer("sizes")

    def bsm_of_bfu(self, bsm: Tensor) -> Tensor:
        """Return the block size mode of the band of each BFU. Shape: [*, 3] -> [*, 52]."""
        return bsm[..., self.get_buffer("band_of_bfu")]

    def _permute(self, x: Tensor, bsm: Tensor, order: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            moved = bsm.detach()[..., self.get_buffer("band_of_value")] > 0
            return torch.where(moved, x.index_select(-1, order), x)
        # Short blocks are rare: only the frames that have some are moved.
        short = (bsm.detach() > 0).reshape(-1, t.N_BANDS)
        rows = short.any(-1).nonzero()[:, 0]
        if not len(rows):
            return x
        frames = x.reshape(-1, t.FRAME_SAMPLES)
        own = frames[rows]
        moved = torch.where(short[rows][:, self.get_buffer("band_of_value")], own.index_select(-1, order), own)
        return frames.index_copy(0, rows, moved).view_as(x)


def reduce_bfus(values: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Reduce each BFU of values in bitstream order to one number. Shape: [*, 512] -> [*, 52]."""
    runs = torch.split(values, [size * count for size, count in BFU_RUNS], -1)
    return torch.cat([reduce(torch.unflatten(run, -1, (-1, size))) for run, (size, _) in zip(runs, BFU_RUNS)], -1)


def carries(n_bfu: Tensor) -> Tensor:
    """Return which of the 52 BFUs are carried. Shape: [*] -> bool [*, 52]."""
    return torch.arange(t.N_BFU_MAX, device=n_bfu.device) < n_bfu[..., None]
