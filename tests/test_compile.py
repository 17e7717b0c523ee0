"""torch.compile and torch.export take the whole codec: no break in the graph, the same numbers, the same slopes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from atrac_codec import NNFullCodec
from atrac_data import render

PAIRS = [("reference", "standard"), ("neural", "neural")]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def wave() -> Tensor:
    """Two stereo sounds with attacks, so that some blocks are short [2, 2, 6000]."""
    sounds = [render("attacks", seconds=1.0, seed=seed, channels=2)[:, 20000:26000] for seed in (900, 901)]
    return torch.stack([torch.from_numpy(sound) for sound in sounds])


@pytest.mark.filterwarnings("default")  # torch's own
@pytest.mark.parametrize(("preset", "decoder"), PAIRS)
def test_the_layer_is_one_graph_forward_and_backward(preset: str, decoder: str, wave: Tensor):
    codec = NNFullCodec.from_pretrained(preset, decoder)
    # aot_eager traces forward and backward as a compiler does and leaves out its last step, which takes minutes.
    compiled = torch.compile(codec, fullgraph=True, backend="aot_eager")
    results = []
    for layer in (codec, compiled):
        own = wave.clone().requires_grad_()
        codec.zero_grad()
        decoded, batch = layer(own, return_batch=True)
        (decoded - wave).square().mean().backward()
        weights = [weight.grad for weight in codec.parameters() if weight.grad is not None]
        results.append((decoded.detach(), own.grad, [*batch], weights))
    assert results[0][2][0].any(), "no short block in it"
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-9)
    assert all(torch.equal(*fields) for fields in zip(results[0][2], results[1][2], strict=True))
    for other, own in zip(results[1][3], results[0][3], strict=True):
        torch.testing.assert_close(other, own, rtol=1e-3, atol=1e-6 * float(own.abs().max()))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("preset", ["reference", "neural"])
@torch.no_grad()
def test_the_layer_can_be_exported(preset: str, wave: Tensor):
    codec = NNFullCodec.from_pretrained(preset)
    exported = torch.export.export(codec, (wave,))
    other = 0.5 * wave.flip(0)
    torch.testing.assert_close(exported.module()(other), codec(other), rtol=0, atol=1e-6)
