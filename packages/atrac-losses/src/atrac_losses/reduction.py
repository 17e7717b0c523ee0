"""From values per sample to a value per signal, and from there to one for the batch.

Time comes first: a masked mean leaves one value per signal, `[*, T] -> [*]`. Then the batch: mean, sum or
none over whatever dimensions lead. So every signal weighs the same, however long it is without its padding.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

Reduction = Literal["mean", "sum", "none"]


def check_reduction(reduction: str) -> None:
    """Refuse a reduction that is not one of the three.

    Args:
        reduction: "mean", "sum" or "none".

    Raises:   ValueError naming the three.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction = {reduction!r}, allowed {', '.join(map(repr, get_args(Reduction)))}")


def masked_mean(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Average over the last dimension, counting valid entries only.

    mean = sum(values[valid]) / count(valid), and 0 where nothing is valid.

    Args:
        values: one value per sample or frame; values at entries that are not valid are never used.
        valid: true where an entry counts; default: all count.

    Shape:    values [*, T], valid [*, T] -> [*]
    Example:
        >>> masked_mean(torch.tensor([1.0, 3.0, float("nan")]), torch.tensor([True, True, False]))
        tensor(2.)
    """
    if valid is None:
        return values.mean(dim=-1)
    kept = torch.where(valid, values, torch.zeros((), dtype=values.dtype, device=values.device))
    return kept.sum(dim=-1) / valid.sum(dim=-1).clamp(min=1)


def reduce_batch(values: Tensor, reduction: Reduction = "mean", counted: Tensor | None = None) -> Tensor:
    """Reduce one value per signal as the caller asks.

    Args:
        values: one value per signal.
        reduction: "mean" or "sum" over all leading dimensions, or "none".
        counted: false for a signal that has nothing to judge (all padding, say): it is left out of the mean
            and the sum, and reads 0 under "none"; default: all count.

    Shape:    values [*], counted [*] -> [] for mean and sum, [*] for none
    Raises:   ValueError for an unknown reduction.
    Example:
        >>> reduce_batch(torch.tensor([2.0, 4.0, 9.0]), "mean", torch.tensor([True, True, False]))
        tensor(3.)
    """
    check_reduction(reduction)
    if counted is not None:
        values = torch.where(counted, values, torch.zeros((), dtype=values.dtype, device=values.device))
    if reduction == "none":
        return values
    total = values.sum()
    if reduction == "sum":
        return total
    return total / (values.numel() if counted is None else counted.sum().clamp(min=1))


def reduce_frames(values: Tensor, counted: Tensor | None, reduction: Reduction = "mean") -> Tensor:
    """Average over frames, then reduce the batch; a signal without a frame that counts is left out.

    Args:
        values: one value per frame.
        counted: true where a frame counts; None for all.
        reduction: as `reduce_batch`.

    Shape:    values, counted [*, F] -> [] for mean and sum, [*] for none
    Raises:   ValueError for an unknown reduction.
    Example:
        >>> reduce_frames(torch.tensor([[2.0, 4.0], [9.0, 9.0]]), torch.tensor([[True, True], [False, False]]))
        tensor(3.)
    """
    return reduce_batch(masked_mean(values, counted), reduction, None if counted is None else counted.any(dim=-1))
