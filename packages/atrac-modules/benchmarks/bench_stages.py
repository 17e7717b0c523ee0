"""Each stage on 3 s of stereo noise, siblings of a role side by side."""

from __future__ import annotations

import pytest
import torch

from atrac_modules import (
    BitExactAllocator,
    BitExactImdct,
    BitExactIqmf,
    BitExactMdct,
    BitExactQmf,
    BitExactTransient,
    NeuralAllocator,
    NeuralDequantizer,
    NeuralImdct,
    NeuralIqmf,
    NeuralMdct,
    NeuralQmf,
    NeuralQuantizer,
    NeuralScaler,
    NeuralTransient,
    ReferenceAllocator,
    ReferenceDequantizer,
    ReferenceImdct,
    ReferenceIqmf,
    ReferenceMdct,
    ReferenceQmf,
    ReferenceQuantizer,
    ReferenceScaler,
    ReferenceTransient,
)

FRAMES = 256


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Run the reference chain once; every stage gets what it would get there."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        pcm = 0.1 * torch.randn(2, 512 * FRAMES, generator=generator)
        bands = ReferenceQmf()(pcm)
        bsm = ReferenceTransient()(bands)
        spectrum = ReferenceMdct()(bands, bsm)
        idsf = ReferenceScaler()(spectrum, bsm)
        chosen = ReferenceAllocator()(spectrum, idsf, bsm)
        quantized = ReferenceQuantizer()(spectrum, idsf, chosen.idwl, bsm)
    return {
        "pcm": pcm, "bands": bands, "bsm": bsm, "spectrum": spectrum, "idsf": idsf,
        "idwl": chosen.idwl, "quantized": quantized,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "inputs"),
    [
        (ReferenceQmf, "pcm"),
        (BitExactQmf, "pcm"),
        (NeuralQmf, "pcm"),
        (ReferenceTransient, "bands"),
        (BitExactTransient, "bands"),
        (NeuralTransient, "bands"),
        (ReferenceMdct, "bands bsm"),
        (BitExactMdct, "bands bsm"),
        (NeuralMdct, "bands bsm"),
        (ReferenceScaler, "spectrum bsm"),
        (NeuralScaler, "spectrum bsm"),
        (ReferenceAllocator, "spectrum idsf bsm"),
        (BitExactAllocator, "spectrum idsf bsm"),
        (NeuralAllocator, "spectrum idsf bsm"),
        (ReferenceQuantizer, "spectrum idsf idwl bsm"),
        (NeuralQuantizer, "spectrum idsf idwl bsm"),
        (ReferenceDequantizer, "quantized idsf idwl bsm"),
        (NeuralDequantizer, "quantized idsf idwl bsm"),
        (ReferenceImdct, "spectrum bsm"),
        (BitExactImdct, "spectrum bsm"),
        (NeuralImdct, "spectrum bsm"),
        (ReferenceIqmf, "bands"),
        (BitExactIqmf, "bands"),
        (NeuralIqmf, "bands"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_stage(benchmark, tensors, stage, inputs):
    benchmark.group = stage.__name__.removeprefix("Reference").removeprefix("BitExact").removeprefix("Neural")
    torch.manual_seed(0)  # learned siblings have random weights; only the allocator's time depends on them
    module, arguments = stage(), [tensors[name] for name in inputs.split()]
    with torch.no_grad():
        benchmark.pedantic(module, arguments, rounds=15, warmup_rounds=2)
