"""Golden vectors, signals, and the part of the contract that every stage of every role keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atrac_modules import ReferenceScaler, ShapeError, Stage

GOLDEN = Path(__file__).parent / "golden" / "stages.npz"
BSM_SHORT = torch.tensor([2.0, 2.0, 3.0])


@pytest.fixture(scope="session", params=["voice_mono", "music_stereo"])
def golden(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The reference codec's values for one signal, channels first, as tensors."""
    with np.load(GOLDEN) as file:
        prefix = request.param + "."
        values = {k.removeprefix(prefix): torch.from_numpy(file[k]) for k in file.files if k.startswith(prefix)}
    values["pcm"] = values["pcm"].float() / 32768
    mask = values["window_mask"].long()
    values["bsm"] = torch.stack([(mask >> band & 1) * BSM_SHORT[band] for band in range(3)], -1)
    values["idsf"] = values["scale_factor_idx"].float()
    values["idwl"] = (values["word_length"].float() - 1).clamp_min(0)
    return SimpleNamespace(**values)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(20261122)


@pytest.fixture
def random_bsm(generator: torch.Generator) -> Callable[..., Tensor]:
    """Draw block size modes of a given leading shape."""

    def draw(*leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return (torch.randint(2, (*leading, 3), generator=generator) * BSM_SHORT).to(dtype)

    return draw


@pytest.fixture
def sound_units(generator: torch.Generator, random_bsm: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Spectra of all slopes and levels, one of them silent, with their idsf and bsm [3, 10, …]."""
    decay = torch.logspace(0, -4, 512) ** torch.rand(3, 10, 1, generator=generator)
    level = 10.0 ** -torch.randint(0, 5, (3, 10, 1), generator=generator)
    spectrum = (torch.randn(3, 10, 512, generator=generator) * decay * level).clamp(-2, 2)
    spectrum[0, 0] = 0
    bsm = random_bsm(3, 10)
    return spectrum, ReferenceScaler()(spectrum, bsm), bsm


@pytest.fixture
def jumping_bands(generator: torch.Generator) -> Tensor:
    """Bands of noise whose level jumps, in half of the frames also within the frame [3, 8, 512]."""
    noise = torch.randn(3, 8, 8, 64, generator=generator)
    levels = torch.randint(0, 4, (3, 8, 8, 1), generator=generator)
    levels[:, 4:] = levels[:, 4:, :1]
    return (noise * 10.0**-levels).flatten(-2)


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Build stages with float64 tables."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def build() -> Callable[..., Any]:
    """Build stages; random weights come from the seed, and torch's own generator stays where it was."""

    def build(stage: type[Stage], seed: int = 20261123, **settings: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return stage(**settings)

    return build


def parts(result: Any) -> list[Tensor]:
    """Return the tensors of a stage's result."""
    return [getattr(result, f.name) for f in fields(result)] if is_dataclass(result) else [result]


@pytest.fixture
def keeps_contract() -> Callable[..., None]:
    """Check what every stage of every role promises; the test of each role adds what its role promises."""

    def check(stage: Stage, inputs: tuple[Tensor, ...], sizes: tuple[tuple[int, ...], ...]) -> None:
        """Run `stage` on `inputs` [3, F, …] and expect outputs of `sizes` after the leading dimension."""
        results = parts(stage(*inputs))
        assert [tuple(r.shape[1:]) for r in results] == list(sizes)
        assert all(r.dtype == torch.float32 for r in results)
        assert all(torch.isfinite(r).all() for r in results)

        close = {"rtol": 0, "atol": 2e-6 * max(1.0, max(r.abs().max().item() for r in results))}
        for one in range(3):  # channels are batch, and nothing is remembered
            for got, want in zip(parts(stage(*(x[one] for x in inputs))), results, strict=True):
                torch.testing.assert_close(got, want[one], **close)
        split = parts(stage(*(x[:2].reshape(2, 1, *x.shape[1:]) for x in inputs)))
        for got, want in zip(split, results, strict=True):
            torch.testing.assert_close(got[:, 0], want[:2], **close)

        with torch.autocast("cpu", torch.bfloat16):
            for got, want in zip(parts(stage(*inputs)), results, strict=True):
                torch.testing.assert_close(got, want, rtol=0, atol=0)

        for k, x in enumerate(inputs):
            with pytest.raises(ShapeError) as caught:
                stage(*(y[..., :-1] if j == k else y for j, y in enumerate(inputs)))
            assert list(caught.value.actual) == [*x.shape[:-1], x.shape[-1] - 1]
            assert caught.value.expected in str(caught.value)
        assert not stage.state_dict() or any(p.requires_grad for p in stage.parameters())

    return check


@pytest.fixture
def gets_slopes() -> Callable[..., None]:
    """Check who gets a slope from the sum of squares of a result."""

    def check(stage: Stage, result: Tensor, inputs: tuple[Tensor, ...] = (), spared: tuple[str, ...] = ()) -> None:
        """Expect a finite slope that is not 0 at `inputs` and at every weight, none at those that are `spared`."""
        (result + 0.3).square().sum().backward()  # whole numbers that are 0 count as well
        for name, weight in [*stage.named_parameters(), *((f"input {k}", x) for k, x in enumerate(inputs))]:
            if name in spared:
                assert weight.grad is None or not weight.grad.any(), name
                continue
            assert weight.grad is not None, name
            assert torch.isfinite(weight.grad).all(), name
            assert weight.grad.any(), name

    return check


@pytest.fixture
def slopes_are_differences(generator: torch.Generator) -> Callable[..., None]:
    """Check the slope of a loss along a random direction of some weights against the loss on either side."""

    def check(
        weights: list[nn.Parameter],
        loss: Callable[[], Tensor],
        step: float = 1e-6,
        hard: Callable[[], Tensor] | None = None,
    ) -> None:
        """Expect that `loss` has its true slopes, and `hard`, a loss of whole numbers, the same ones."""
        directions = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
        slopes = torch.autograd.grad(loss(), weights)
        for own, same in zip(slopes, torch.autograd.grad(hard(), weights) if hard else slopes, strict=True):
            torch.testing.assert_close(same, own, rtol=1e-9, atol=1e-9)
        slope, ends = sum((s * d).sum().item() for s, d in zip(slopes, directions, strict=True)), []
        with torch.no_grad():
            for move in (step, -2 * step, step):  # to either side and back
                torch._foreach_add_(weights, directions, alpha=move)
                ends.append(loss().item())
        assert slope != 0
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)

    return check
