"""Distortion: the weighted squared error of each BFU for several word lengths and scale factors, by quantizing it.

    spectrum, idsf, bsm, weight ─prepare→ Prepared ─measure→ Candidates

Used by the search in `rate_distortion.py`. Tensors here have the sound units last, [52, N], so that each step works on
all of them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import tables as t
from atrac_modules.bfu import BFU_RUNS, BfuLayout

_OFFSETS: Final = np.array([[0, 0, 0], [-2, -1, -3], [-1, 0, 1], *[[0, -1, 1]] * 13])
"""Changes of a scale factor index that are tried, from the smallest scale factor that covers its BFU, for each IDWL
[16, 3].

With few levels it pays to clip the largest values. Of all changes from -3 to 2 one of these is the best in 96 cases of
100; the others gain 0.1 dB or less (measured)."""
_LEVELS: Final = np.where(t.WORD_LENGTHS > 0, t.LEVELS, 0).astype(np.float64)


def _runs() -> list[tuple[slice, slice, tuple[int, int]]]:
    runs, value, bfu = [], 0, 0
    for size, count in BFU_RUNS:
        runs.append((slice(value, value + size * count), slice(bfu, bfu + count), (count, size)))
        value, bfu = value + size * count, bfu + count
    return runs


_RUNS: Final = _runs()
"""Values, BFUs, and (number, size) of each run of neighbouring BFUs of one size."""


@dataclass(frozen=True)
class Prepared:
    """Sound units prepared for the search: the coefficients of each BFU divided by its scale factor.

    Args:
        values: in bitstream order.
        energy: sum of the squared values of each BFU.
        idsf: scale factor index of each BFU.
        weight: weight of a squared error of the values.

    Shape: values [512, N], energy, idsf, weight [52, N]
    """

    values: Tensor
    energy: Tensor
    idsf: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Candidates:
    """Weighted distortion and rate of K choices for each BFU, and the choices themselves.

    Candidate 0 has no bits; each later one has more bits than the one before.

    Args:
        distortion: weighted squared error.
        rate: bits of the BFU's values.
        idwl: word length index.
        offset: change of the scale factor index.

    Shape: distortion, rate, idwl, offset [K, 52, N]
    """

    distortion: Tensor
    rate: Tensor
    idwl: Tensor
    offset: Tensor


def prepare(spectrum: Tensor, idsf: Tensor, bsm: Tensor, weight: Tensor, layout: BfuLayout) -> Prepared:
    """Prepare sound units for the search.

    Args:
        weight: weight of a squared error of the coefficients of each BFU, above 0.

    Shape: spectrum [N, 512], idsf, weight [N, 52], bsm [N, 3]
    """
    index = idsf.long().T.contiguous()
    factors = torch.as_tensor(t.SCALE_FACTORS, dtype=spectrum.dtype, device=spectrum.device)[index]
    grouped = layout.group(spectrum, bsm).T.contiguous()
    values = torch.empty_like(grouped)
    _by_bfu(torch.div, grouped, factors, out=values)
    # A coefficient of n short blocks carries 1 / n of the energy that one of a long block carries.
    share = torch.exp2(-layout.bsm_of_bfu(bsm).T.to(spectrum.dtype)) * factors.square()
    return Prepared(values, _sum_bfus(values.square()), index, weight.T * share)


def measure(prepared: Prepared, idwl: Tensor, reach: tuple[int, int]) -> Candidates:
    """Quantize every BFU with several word lengths, and keep for each the scale factor with the least error.

    One more word length, the longest, is not measured: its error is that of the one below, scaled by the step size,
    and its scale factor is the one that is most often best. Errors are small there and hardly depend on it.

    Args:
        idwl: word length indices around which to measure.
        reach: how many word lengths below and above are measured.

    Shape: idwl [52, N] -> candidates [3 + reach[0] + reach[1], 52, N]
    """
    around = torch.arange(-reach[0], reach[1] + 2, device=idwl.device)[:, None, None]
    idwl = idwl.clamp(1 + reach[0], t.IDWL_MAX - reach[1] - 1) + around
    magnitude = prepared.values.abs()
    dtype, device = magnitude.dtype, magnitude.device
    levels = torch.as_tensor(_LEVELS, dtype=dtype, device=device)[idwl]
    offsets = torch.as_tensor(_OFFSETS, dtype=dtype, device=device)[idwl].unbind(-1)
    error, best = torch.full_like(levels, torch.inf), torch.zeros_like(levels)
    exact, rounded = torch.empty_like(magnitude), torch.empty_like(magnitude)
    for k, largest in enumerate(levels[:-1]):
        for offset in offsets:
            moved = offset[k]
            steps = largest * torch.exp2(moved / -3)
            _by_bfu(torch.mul, magnitude, steps, out=exact)
            torch.round(exact, out=rounded)
            _by_bfu(torch.minimum, rounded, largest, out=rounded)
            tried = _sum_bfus(exact.sub_(rounded).square_()) / steps.square()
            tried = torch.where((prepared.idsf + moved >= 0) & (prepared.idsf + moved <= t.IDSF_MAX), tried, torch.inf)
            best[k] = torch.where(tried < error[k], moved, best[k])
            torch.minimum(error[k], tried, out=error[k])
    error[-1] = error[-2] * (levels[-2] / levels[-1]).square()
    best[-1] = torch.maximum(offsets[0][-1], -prepared.idsf)
    nothing = torch.zeros_like(best[:1])
    rate = torch.as_tensor(t.WORD_LENGTHS, dtype=dtype, device=device)[idwl] * per_bfu(t.BFU_SIZES, magnitude)
    return Candidates(
        torch.cat([prepared.energy[None], error]) * prepared.weight,
        torch.cat([nothing, rate]),
        torch.cat([nothing, idwl]).to(idwl.dtype),
        torch.cat([nothing, best]),
    )


def per_bfu(table: NDArray[np.int64], like: Tensor) -> Tensor:
    """Return a table by BFU as a column [52, 1] with dtype and device of another tensor."""
    return torch.as_tensor(table, dtype=like.dtype, device=like.device)[:, None]


def _sum_bfus(values: Tensor) -> Tensor:
    """Sum the values of each BFU, in bitstream order. Shape: [512, N] -> [52, N]."""
    out = values.new_empty(t.N_BFU_MAX, values.shape[1])
    for own, bfus, shape in _RUNS:
        torch.sum(values[own].view(*shape, -1), 1, out=out[bfus])
    return out


def _by_bfu(operation: Callable[..., Tensor], values: Tensor, per_bfu: Tensor, out: Tensor) -> None:
    """Apply an operation to each value and the number of its BFU. Shape: [512, N], [52, N] -> out [512, N]."""
    for own, bfus, shape in _RUNS:
        operation(values[own].view(*shape, -1), per_bfu[bfus, None], out=out[own].view(*shape, -1))
