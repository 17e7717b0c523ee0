"""Distortion: the weighted squared error of each BFU for every word length and several scale factors, by quantizing it.

    spectrum, idsf, bsm, weight ─prepare→ Prepared ─measure→ Candidates

Used by the search in `rate_distortion.py`. Tensors here have the sound units last, [52, N], so that each step works on
all of them together. On the CPU, the kernel of atrac-runtime does the same.
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
from atrac_runtime.kernels.distortion import OFFSETS

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
    """Weighted distortion of every word length for each BFU, by word length index, with the best scale factor.

    Args:
        distortion: weighted squared error.
        offset: change of the scale factor index.

    Shape: distortion, offset [16, 52, N]
    """

    distortion: Tensor
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


def measure(prepared: Prepared) -> Candidates:
    """Quantize every BFU with every word length, and keep for each the scale factor with the least error."""
    magnitude = prepared.values.abs()
    distortion = prepared.energy.new_full((t.IDWL_MAX + 1, *prepared.energy.shape), torch.inf)
    offset = torch.zeros_like(distortion)
    distortion[0] = prepared.energy
    exact, rounded = torch.empty_like(magnitude), torch.empty_like(magnitude)
    for word in range(1, t.IDWL_MAX + 1):
        for move in OFFSETS[word].tolist():
            steps = float(_LEVELS[word]) * 2.0 ** (-move / 3)
            torch.mul(magnitude, steps, out=exact)
            torch.round(exact, out=rounded).clamp_(max=float(_LEVELS[word]))
            tried = _sum_bfus(exact.sub_(rounded).square_()) / steps**2
            moved = prepared.idsf + move
            better = (moved >= 0) & (moved <= t.IDSF_MAX) & (tried < distortion[word])
            distortion[word] = torch.where(better, tried, distortion[word])
            offset[word] = torch.where(better, move, offset[word])
    return Candidates(distortion * prepared.weight, offset)


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
