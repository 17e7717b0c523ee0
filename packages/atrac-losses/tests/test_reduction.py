import pytest
import torch

from atrac_losses import masked_mean, reduce_batch


def test_masked_mean_counts_valid_entries_only() -> None:
    values = torch.tensor([[1.0, 2.0, 6.0], [5.0, float("nan"), float("inf")], [7.0, 8.0, 9.0]])
    valid = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    assert masked_mean(values, valid).tolist() == [3.0, 5.0, 0.0]


def test_masked_mean_without_mask_is_the_mean() -> None:
    assert masked_mean(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [3.0]


def test_reduce_batch_leaves_out_what_does_not_count() -> None:
    values, counted = (
        torch.tensor([[1.0, 2.0], [float("nan"), 6.0]]),
        torch.tensor([[True, True], [False, True]]),
    )
    assert reduce_batch(values, "mean", counted) == 3.0
    assert reduce_batch(values, "sum", counted) == 9.0
    assert reduce_batch(values, "none", counted).tolist() == [[1.0, 2.0], [0.0, 6.0]]


def test_reduce_batch_of_nothing_is_zero() -> None:
    assert reduce_batch(torch.tensor([4.0]), "mean", torch.tensor([False])) == 0.0


def test_reduce_batch_names_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="reduction = 'max', allowed 'mean', 'sum', 'none'"):
        reduce_batch(torch.ones(2), "max")  # type: ignore[arg-type]
