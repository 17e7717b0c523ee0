from __future__ import annotations

import pytest
import torch

from atrac_modules import SoftRounding, StraightThrough, UniformNoise
from atrac_modules.straight_through import hard_forward_soft_backward

X = torch.linspace(-3, 3, 1201, dtype=torch.float64)


def slope_of(rounding) -> torch.Tensor:
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(rounding(x).sum(), x)
    return slope


@pytest.mark.parametrize("rounding", [StraightThrough(), UniformNoise()])
def test_slope_is_1(rounding):
    assert torch.equal(slope_of(rounding), torch.ones_like(X))


@pytest.mark.parametrize("sharpness", [0.01, 1.0, 4.0, 20.0])
def test_soft_rounding_has_the_slope_of_its_formula(sharpness: float):
    def soft(x: torch.Tensor) -> torch.Tensor:
        r = x - x.floor() - 0.5
        return x.floor() + 0.5 + torch.tanh(sharpness * r) / (2 * torch.tanh(torch.tensor(sharpness / 2)))

    inside = (X - X.round()).abs() > 1e-3  # the staircase has kinks on the whole numbers
    difference = (soft(X + 1e-7) - soft(X - 1e-7)) / 2e-7
    torch.testing.assert_close(slope_of(SoftRounding(sharpness))[inside], difference[inside], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rounding", [StraightThrough(), SoftRounding(3.0)])
def test_forward_rounds_half_to_even(rounding):
    assert torch.equal(rounding(X), X.round())
    x = X.clone().requires_grad_()
    assert torch.equal(rounding(x), X.round())


def test_uniform_noise_rounds_to_a_neighbour_and_to_x_in_the_mean():
    generator = torch.Generator().manual_seed(5)
    x = torch.full((200_000,), 0.3)
    rounded = UniformNoise(generator)(x)
    assert set(rounded.tolist()) == {0.0, 1.0}
    assert rounded.mean().item() == pytest.approx(0.3, abs=0.005)
    again = UniformNoise(torch.Generator().manual_seed(5))(x)
    assert torch.equal(rounded, again)


def test_sharpness_must_be_positive():
    with pytest.raises(ValueError, match="sharpness = 0, allowed > 0"):
        SoftRounding(0)


def test_hard_value_is_exact_and_soft_slope_flows():
    soft = torch.tensor([1e8, -0.1], requires_grad=True)
    value = hard_forward_soft_backward(torch.tensor([3.0, 2.0]), 2 * soft)
    assert value.tolist() == [3.0, 2.0]
    value.sum().backward()
    assert soft.grad.tolist() == [2.0, 2.0]
