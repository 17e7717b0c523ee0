"""The layer, the decoders and a training on a GPU, where there is one: what works on the CPU works there by `.to()`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atrac_bitstream import unpack_units
from atrac_codec import DECODERS, ENCODERS, NNFullCodec, StreamEncoder, build_encoder, to_units
from atrac_data import render
from atrac_losses import RunningMeasures, nmr

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def wave() -> torch.Tensor:
    return torch.from_numpy(np.stack([render("music", seconds=1.0), render("attacks", seconds=1.0)]))


@pytest.mark.parametrize("preset", ENCODERS)
def test_an_encoder_decides_on_the_gpu_as_on_the_cpu(preset: str):
    encoder = build_encoder(preset)
    with torch.no_grad():
        batches = [encoder.to(device)(wave()[..., : 512 * 80].to(device)) for device in ("cpu", "cuda")]
    assert batches[1].idwl.device.type == "cuda"
    cpu, gpu = (unpack_units(to_units(batch)) for batch in batches)
    # Sums in another order move a few decisions that lie on an edge.
    assert (cpu.bsm == gpu.bsm).mean() > 0.999
    assert (cpu.idwl == gpu.idwl).mean() > 0.99


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_decoder_gives_the_same_samples(decoder: str):
    codec = NNFullCodec.from_pretrained("reference", decoder)
    with torch.no_grad():
        batch = codec.encode(wave())
        cpu = codec.decode(batch)
        gpu = codec.cuda().decode(batch.map(lambda field: field.cuda()))
    assert (gpu.cpu() - cpu).abs().max() < 2e-5


@pytest.mark.parametrize("preset", [name for name in ENCODERS if name != "bitexact"])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_layer_has_finite_gradients(preset: str, autocast: bool):
    codec = NNFullCodec.from_pretrained(preset).cuda()
    own = wave().cuda().requires_grad_()
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        decoded = codec(own)
    nmr(decoded, own.detach()).backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()
    assert own.grad.any()


def test_files_and_measures_take_modules_on_the_gpu():
    pcm = wave()[0].numpy()
    units = []
    for device in ("cpu", "cuda"):
        stream = StreamEncoder(build_encoder("reference").to(device), 2)
        units.append(np.concatenate([stream.push(pcm), stream.finish()]))
    assert (units[0] == units[1]).all(-1).mean() > 0.9
    running = RunningMeasures(2)
    running.push(0.9 * wave()[0].cuda(), wave()[0].cuda())
    assert running.result()["SNR (dB)"] == pytest.approx(20, abs=1e-3)


@pytest.mark.slow
def test_a_stage_trains_on_the_gpu(tmp_path: Path):
    from atrac_train.train_stage import main

    argv = ["stage=scaler", "epochs=1", "steps_per_epoch=5", "data.seconds=0.3", "data.sounds=[noise]"]
    assert main([*argv, f"output={tmp_path}"]) == 0
    assert list((tmp_path / "weights").glob("scaler-*.safetensors"))
