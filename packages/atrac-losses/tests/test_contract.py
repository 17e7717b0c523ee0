"""One contract for every measure: shapes, signs, edges, masks, precision, gradients."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

Measure = Callable[..., Tensor]

FLOAT32_TOLERANCE = 1e-5
"""Two float32 sums of a thousand terms taken in another order."""


def noisy_pair(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    reference = 0.3 * torch.randn(*shape, generator=generator, dtype=dtype)
    return reference + 0.02 * torch.randn(*shape, generator=generator, dtype=dtype), reference


def test_reductions_agree(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 3, 1100)
    each = measure(estimate, reference, reduction="none")
    assert each.shape == (2, 3)
    torch.testing.assert_close(measure(estimate, reference), each.mean())
    torch.testing.assert_close(measure(estimate, reference, reduction="sum"), each.sum())
    alone = measure(estimate[1, 2], reference[1, 2], reduction="none")
    torch.testing.assert_close(alone, each[1, 2], rtol=FLOAT32_TOLERANCE, atol=FLOAT32_TOLERANCE)


def test_module_is_a_loss_to_minimise(
    measure: Measure, module: Callable[..., nn.Module], sign: float, generator: torch.Generator
) -> None:
    estimate, reference = noisy_pair(generator, 3, 1100)
    mask = torch.arange(1100) < torch.tensor([[1100], [700], [30]])
    for reduction in ("mean", "sum", "none"):
        loss = module(reduction)(estimate, reference, mask)
        torch.testing.assert_close(loss, sign * measure(estimate, reference, mask, reduction))
    worse = reference + 3.0 * (estimate - reference)
    assert module()(worse, reference) > module()(estimate, reference) > module()(reference, reference)


def test_one_gradient_step_lowers_the_loss(module: Callable[..., nn.Module], generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 1, 1100, dtype=torch.float64)
    estimate.requires_grad_()
    loss = module()(estimate, reference)
    (slope,) = torch.autograd.grad(loss, estimate)
    assert module()(estimate - 1e-5 * slope / slope.norm(), reference) < loss


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


def test_equal_inputs_are_best(measure: Measure, best: float, generator: torch.Generator) -> None:
    _, reference = noisy_pair(generator, 1, 1024)
    assert measure(reference, reference).item() == pytest.approx(best, abs=0.1)  # 0.1 dB: float32 of a gain near 1


def test_mask_equals_cropping(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 5, 1600)
    lengths = [1600, 1599, 1025, 300, 1]
    mask = torch.arange(1600) < torch.tensor(lengths)[:, None]
    for given in (mask, mask.float(), mask.long()):
        masked = measure(estimate, reference, given, "none")
        for row, length in enumerate(lengths):
            cropped = measure(estimate[row, :length], reference[row, :length])
            torch.testing.assert_close(masked[row], cropped, rtol=FLOAT32_TOLERANCE, atol=FLOAT32_TOLERANCE)


def test_mask_is_shared_by_channels(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 3, 1100)
    mask = torch.arange(1100) < torch.tensor([[[800]], [[1100]]])
    torch.testing.assert_close(
        measure(estimate, reference, mask, "none"),
        measure(estimate, reference, mask.expand(2, 3, -1), "none"),
    )


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
    assert measure(estimate, reference, mask, "none")[1] == 0
    assert measure(estimate, reference, torch.zeros(1100)) == 0


def test_autocast_changes_nothing(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 1100)
    plain = measure(estimate, reference)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = measure(estimate, reference)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_first(measure: Measure, dtype: torch.dtype, generator: torch.Generator) -> None:
    estimate, reference = (signal.to(dtype) for signal in noisy_pair(generator, 2, 1100))
    value = measure(estimate, reference)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, measure(estimate.float(), reference.float()), rtol=0, atol=0)


def test_float64_stays(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 1100, dtype=torch.float64)
    assert measure(estimate, reference.float()).dtype == torch.float64


def test_gradient_matches_finite_differences(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 60, dtype=torch.float64)
    mask = torch.arange(60) < torch.tensor([[60], [41]])
    inputs = (estimate.requires_grad_(), reference.requires_grad_())
    assert torch.autograd.gradcheck(lambda e, r: measure(e, r, mask, "none"), inputs)


def test_wrong_arguments_are_refused(measure: Measure, module: Callable[..., nn.Module]) -> None:
    x = torch.zeros(2, 8)
    with pytest.raises(ValueError, match=r"estimate \[2, 8\] and reference \[8\] differ"):
        measure(x, x[0])
    with pytest.raises(ValueError, match=r"shape \[2, 0\]"):
        measure(x[:, :0], x[:, :0])
    with pytest.raises(ValueError, match=r"shape \[\]"):
        measure(x[0, 0], x[0, 0])
    with pytest.raises(TypeError, match=r"reference is torch.int64"):
        measure(x, x.long())
    for shape in ((2, 7), (3, 8), (2, 1), (1, 2, 8)):
        with pytest.raises(ValueError, match="mask has shape"):
            measure(x, x, torch.ones(shape))
    with pytest.raises(ValueError, match="'mean', 'sum', 'none'"):
        measure(x, x, reduction="median")
    with pytest.raises(ValueError, match="'mean', 'sum', 'none'"):
        module("median")


def test_inputs_are_left_alone(measure: Measure, generator: torch.Generator) -> None:
    estimate, reference = noisy_pair(generator, 2, 1100)
    before = estimate.numpy().copy(), reference.numpy().copy()
    measure(estimate, reference, torch.arange(1100) < 900)
    np.testing.assert_array_equal(estimate.numpy(), before[0])
    np.testing.assert_array_equal(reference.numpy(), before[1])
