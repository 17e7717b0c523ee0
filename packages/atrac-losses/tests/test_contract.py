"""One contract for every measure: shapes, signs, edges, masks, precision, gradients."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from atrac_losses import EarModel, Loss, mel_distance, nmr

Measure = Callable[..., Tensor]
MakeLoss = Callable[..., Loss[...]]

FLOAT32_TOLERANCE = 1e-5
"""Two float32 sums of a thousand terms taken in another order."""


def noisy_pair(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    reference = 0.3 * torch.randn(*shape, generator=generator, dtype=dtype)
    return reference + 0.02 * torch.randn(*shape, generator=generator, dtype=dtype), reference


def test_reductions_agree_and_inputs_are_left_alone(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 3, 1100)
    before = estimate.clone(), reference.clone()
    each = measure(estimate, reference, reduction="none")
    assert each.shape == (2, 3)
    torch.testing.assert_close(measure(estimate, reference), each.mean())
    torch.testing.assert_close(measure(estimate, reference, reduction="sum"), each.sum())
    alone = measure(estimate[1, 2], reference[1, 2], reduction="none")
    torch.testing.assert_close(alone, each[1, 2], rtol=FLOAT32_TOLERANCE, atol=FLOAT32_TOLERANCE)
    assert torch.equal(estimate, before[0])
    assert torch.equal(reference, before[1])


def test_loss_is_least_for_equal_inputs_and_falls_along_its_gradient(
    name: str, measure: Measure, loss: MakeLoss, best: float, generator: torch.Generator
) -> None:
    estimate, reference = noisy_pair(generator, 3, 1100, dtype=torch.float64)
    mask = torch.arange(1100) < torch.tensor([[1100], [700], [30]])
    sign = -1.0 if name in ("snr", "si_sdr", "segmental_snr") else 1.0
    for reduction in ("mean", "sum", "none"):
        expected = sign * measure(estimate, reference, mask, reduction)
        torch.testing.assert_close(loss(reduction=reduction)(estimate, reference, mask), expected)
    value = loss()(estimate.requires_grad_(), reference)
    assert loss()(reference + 3.0 * (estimate - reference), reference) > value > loss()(reference, reference)
    single = reference[:, :1024].float()
    assert measure(single, single).item() == pytest.approx(best, abs=0.1)  # 0.1 dB: float32 of a gain near 1
    (slope,) = torch.autograd.grad(value, estimate)
    assert loss()(estimate - 1e-5 * slope / slope.norm(), reference) < value


EDGES = {
    "both silent": (torch.zeros(2, 1100), torch.zeros(2, 1100)),
    "reference silent": (torch.full((2, 1100), 0.5), torch.zeros(2, 1100)),
    "estimate silent": (torch.zeros(2, 1100), torch.full((2, 1100), 0.5)),
    "one sample": (torch.tensor([[0.25]]), torch.tensor([[0.5]])),
    "one silent sample": (torch.zeros(1, 1), torch.zeros(1, 1)),
    "full scale": (torch.ones(2, 1100), -torch.ones(2, 1100)),
    "equal": (torch.full((2, 1100), 0.5), torch.full((2, 1100), 0.5)),
    "nearly equal": (torch.full((2, 1100), 0.5), torch.full((2, 1100), 0.5).nextafter(torch.ones(()))),
    "tiny": (torch.full((2, 1100), 1e-20), torch.full((2, 1100), 1e-10)),
    "denormal": (torch.full((2, 1100), 1e-42), torch.full((2, 1100), -1e-42)),
}


@pytest.mark.parametrize("edge", EDGES)
def test_value_and_gradients_are_finite(measure: Measure, edge: str) -> None:
    estimate, reference = (signal.clone().requires_grad_() for signal in EDGES[edge])
    value = measure(estimate, reference)
    assert torch.isfinite(value)
    for slope in torch.autograd.grad(value, (estimate, reference), allow_unused=True, materialize_grads=True):
        assert torch.isfinite(slope).all()


def test_mask_equals_cropping_and_is_shared_by_channels(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 5, 2, 1600)
    lengths = [1600, 1599, 1025, 300, 1]
    mask = torch.arange(1600) < torch.tensor(lengths)[:, None, None]
    for given in (mask, mask.float(), mask.long().expand(5, 2, -1)):
        masked = measure(estimate, reference, given, "none")
        for row, length in enumerate(lengths):
            cropped = measure(estimate[row, :, :length], reference[row, :, :length], reduction="none")
            torch.testing.assert_close(masked[row], cropped, rtol=FLOAT32_TOLERANCE, atol=FLOAT32_TOLERANCE)


def test_padding_is_never_read(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 1100)
    mask = torch.arange(1100) < torch.tensor([[900], [1000]])
    clean = measure(estimate, reference, mask)
    estimate = estimate.masked_fill(~mask, float("nan")).requires_grad_()
    value = measure(estimate, reference.masked_fill(~mask, float("inf")), mask)
    torch.testing.assert_close(value, clean, rtol=0, atol=0)
    (slope,) = torch.autograd.grad(value, estimate)
    assert torch.isfinite(slope).all()
    assert (slope[~mask] == 0).all()


def test_signal_of_padding_alone_is_left_out(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 1100)
    mask = torch.tensor([[True], [False]]).expand(2, 1100)
    torch.testing.assert_close(measure(estimate, reference, mask), measure(estimate[0], reference[0]))
    torch.testing.assert_close(measure(estimate, reference, mask, "sum"), measure(estimate[0], reference[0]))
    assert measure(estimate, reference, mask, "none")[1] == 0
    assert measure(estimate, reference, torch.zeros(1100)) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_computed_in_float32_at_least_and_without_autocast(
    measure: Measure, dtype: torch.dtype, generator: torch.Generator
) -> None:
    estimate, reference = (signal.to(dtype) for signal in noisy_pair(generator, 2, 1100))
    wide = torch.promote_types(dtype, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = measure(estimate, reference)
    assert value.dtype == wide
    torch.testing.assert_close(value, measure(estimate.to(wide), reference.to(wide)), rtol=0, atol=0)
    assert measure(estimate.double(), reference).dtype == torch.float64


def test_gradient_matches_finite_differences(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 33, dtype=torch.float64)
    mask = torch.arange(33) < torch.tensor([[33], [25]])
    inputs = (estimate.requires_grad_(), reference.requires_grad_())
    assert torch.autograd.gradcheck(lambda e, r: measure(e, r, mask, "none"), inputs, fast_mode=True)


def test_wrong_arguments_are_refused(measure: Measure, loss: MakeLoss) -> None:
    x = torch.zeros(2, 8)
    wrong: list[tuple[type[Exception], str, tuple[Tensor, ...]]] = [
        (ValueError, r"estimate \[2, 8\] and reference \[8\] differ", (x, x[0])),
        (ValueError, r"shape \[2, 0\]", (x[:, :0], x[:, :0])),
        (ValueError, r"shape \[\]", (x[0, 0], x[0, 0])),
        (TypeError, r"reference is torch.int64", (x, x.long())),
        *((ValueError, "mask has shape", (x, x, torch.ones(shape))) for shape in ((2, 7), (3, 8), (2, 1), (1, 2, 8))),
    ]
    for kind, message, arguments in wrong:
        with pytest.raises(kind, match=message):
            measure(*arguments)
    for refuse in (lambda: measure(x, x, reduction="median"), lambda: loss(reduction="median")):
        with pytest.raises(ValueError, match="reduction = 'median', allowed 'mean', 'sum', 'none'"):
            refuse()


@pytest.mark.parametrize("measure", [partial(nmr, ear=EarModel(n_fft=128, hop=77)), partial(mel_distance, n_mels=21)])
def test_first_use_in_inference_mode_leaves_later_gradients_alone(measure: Measure, generator: torch.Generator) -> None:
    """Options that no other test uses, so that tables are made and kept in inference mode."""
    estimate, reference = noisy_pair(generator, 600)
    with torch.inference_mode():
        measure(estimate, reference)
    inputs = (estimate.requires_grad_(), reference.requires_grad_())
    assert all(slope.abs().max() > 0 for slope in torch.autograd.grad(measure(*inputs), inputs))
