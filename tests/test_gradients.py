"""Gradients from sound to every weight of every stage, and trainings through the codec that stay finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atrac_codec import NNFullCodec
from atrac_data import NAMES, render

PAIRS = [("neural-stages", "neural-stages"), ("neural", "neural")]


@pytest.fixture(scope="module")
def waves() -> Tensor:
    """Every built-in sound at two levels, [B, 1, N]."""
    sounds = [torch.from_numpy(render(name, seconds=0.7, seed=7, channels=1)) for name in NAMES]
    return torch.stack([*sounds, *(0.03 * sound for sound in sounds)])


@pytest.mark.parametrize(("preset", "decoder"), PAIRS)
@pytest.mark.parametrize("autocast", [False, True])
def test_a_loss_on_sound_moves_every_weight_of_every_stage(autocast: bool, preset: str, decoder: str, waves: Tensor):
    codec = NNFullCodec.from_pretrained(preset, decoder).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = (codec(waves) - waves).square().mean() + (codec(waves) - waves).abs().mean()
    loss.backward()
    names = [name for name, _ in codec.named_parameters()]
    trained = {".".join(name.split(".")[:2]) for name in names}
    fixed = {"encoder.scaler", "encoder.quantizer"} if preset == "neural" else set()
    roles = ("qmf", "transient", "mdct", "scaler", "allocator", "quantizer")
    assert {one for one in trained if one.startswith("encoder.")} == {f"encoder.{role}" for role in roles} - fixed
    assert {f"decoder.{role}" for role in ("dequantizer", "imdct", "iqmf")} <= trained or decoder != "neural-stages"
    for name, weight in codec.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.any(), name


@pytest.mark.parametrize("autocast", [False, True])
def test_all_stages_train_together_and_stay_finite(autocast: bool, waves: Tensor):
    codec = NNFullCodec.from_pretrained("neural-stages", "neural-stages").train()
    optimizer = torch.optim.Adam(codec.parameters(), 1e-4)
    for step in range(30):
        wave = waves[step % 6 :: 6, :, : 512 * 10]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = (codec(wave) - wave).square().mean(-1).add(1e-9).log10().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
        assert all(weight.isfinite().all() for weight in codec.parameters())
