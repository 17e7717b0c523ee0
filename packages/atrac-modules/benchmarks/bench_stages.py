"""Each stage on 3 s of stereo noise, siblings of a role side by side."""

from __future__ import annotations

import pytest
import torch

import atrac_modules as m

FRAMES = 256


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Run the reference chain once; every stage gets what it would get there."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        pcm = 0.1 * torch.randn(2, 512 * FRAMES, generator=generator)
        bands = m.ReferenceQmf()(pcm)
        bsm = m.ReferenceTransient()(bands)
        spectrum = m.ReferenceMdct()(bands, bsm)
        idsf = m.ReferenceScaler()(spectrum, bsm)
        chosen = m.ReferenceAllocator()(spectrum, idsf, bsm)
        quantized = m.ReferenceQuantizer()(spectrum, idsf, chosen.idwl, bsm)
    return {
        "pcm": pcm, "bands": bands, "bsm": bsm, "spectrum": spectrum, "idsf": idsf,
        "idwl": chosen.idwl, "quantized": quantized,
    }  # fmt: skip


INPUTS = {
    "Qmf": "pcm",
    "Transient": "bands",
    "Mdct": "bands bsm",
    "Scaler": "spectrum bsm",
    "Allocator": "spectrum idsf bsm",
    "Quantizer": "spectrum idsf idwl bsm",
    "Dequantizer": "quantized idsf idwl bsm",
    "Imdct": "spectrum bsm",
    "Iqmf": "bands",
}
STAGES = [
    (role, getattr(m, kind + role))
    for role in INPUTS
    for kind in ("Reference", "BitExact", "RateDistortion", "Neural", "NeuralRateDistortion", "NeuralEntropy")
    if hasattr(m, kind + role)
]


@pytest.mark.parametrize(("role", "stage"), STAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_stage(benchmark, tensors, role, stage):
    benchmark.group = role
    torch.manual_seed(0)  # learned stages have random weights; only the allocator's time depends on them
    module, arguments = stage(), [tensors[name] for name in INPUTS[role].split()]
    with torch.no_grad():
        benchmark.pedantic(module, arguments, rounds=15, warmup_rounds=2)
