import torch

from atrac_losses.signals import SignalPair, autocast_off


def test_pair_silences_padding() -> None:
    pair = SignalPair.of(torch.tensor([1.0, float("nan")]), torch.tensor([2.0, 3.0]), torch.tensor([1, 0]))
    assert pair.estimate.tolist() == [1.0, 0.0]
    assert pair.reference.tolist() == [2.0, 0.0]
    assert pair.counted is not None
    assert pair.counted.item() is True


def test_pair_takes_the_wider_type() -> None:
    half, single, double = (torch.ones(2, dtype=t) for t in (torch.float16, torch.float32, torch.float64))
    assert SignalPair.of(half, half).estimate.dtype == torch.float32
    assert SignalPair.of(half, double).estimate.dtype == torch.float64
    assert SignalPair.of(single, half).reference.dtype == torch.float32


def test_autocast_off_holds_inside_autocast_only() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with autocast_off(x):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


def test_autocast_off_passes_devices_without_autocast() -> None:
    x = torch.ones(2, 2, device="meta")
    with autocast_off(x):
        assert (x @ x).shape == (2, 2)
