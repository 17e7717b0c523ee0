import torch

from atrac_losses import masked_mean, reduce_batch


def test_masked_mean_counts_valid_entries_only() -> None:
    values = torch.tensor([[1.0, 2.0, 6.0], [5.0, float("nan"), float("inf")], [7.0, 8.0, 9.0]])
    valid = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    assert masked_mean(values, valid).tolist() == [3.0, 5.0, 0.0]
    assert masked_mean(values[:1]).tolist() == [3.0]


def test_reduce_batch_leaves_out_what_does_not_count() -> None:
    values = torch.tensor([[1.0, 2.0], [float("nan"), 6.0]])
    counted = torch.tensor([[True, True], [False, True]])
    assert reduce_batch(values, "mean", counted) == 3.0
    assert reduce_batch(values, "sum", counted) == 9.0
    assert reduce_batch(values, "none", counted).tolist() == [[1.0, 2.0], [0.0, 6.0]]
    assert reduce_batch(values, "mean", torch.zeros(2, 2, dtype=torch.bool)) == 0.0
