from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_codec import NNFullCodec, from_aea, from_units
from atrac_modules import ShapeError


@torch.no_grad()
def test_waveform_comes_back_in_its_length_and_place(pair: tuple[str, str], sound):
    codec = NNFullCodec.from_pretrained(*pair)
    for samples in (1, 246, 247, 5000):
        wave = torch.from_numpy(sound(samples))[None]
        back = codec(wave)
        assert back.shape == wave.shape
        assert (back - wave).square().mean() < 0.05 * wave.square().mean()


def test_batch_returned_is_the_one_that_was_used(sound):
    waves = torch.stack([torch.from_numpy(sound(3000, seed=s)) for s in range(2)])
    codec = NNFullCodec.from_pretrained()
    decoded, batch = codec(waves, return_batch=True)
    for k, data in enumerate(codec.to_bytes(batch, samples=3000)):
        assert (codec.from_bytes(data)[0] - decoded[k]).abs().max() < 1e-6
        fields, samples = from_aea(data)
        assert samples == 3000
        assert all(torch.equal(a, b[k]) for a, b in zip(fields, batch, strict=True))
    assert codec.from_bytes(codec.to_bytes(batch)[0]).shape == (1, 2, 7 * 512 - 266)  # all, without a length tag


def test_everything_is_the_same_under_autocast(sound):
    wave = torch.from_numpy(sound(4000))[None]
    codec = NNFullCodec.from_pretrained()
    plain = codec(wave)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codec(wave), plain)


def test_codec_has_a_gradient_to_the_waveform_that_lowers_the_error(sound):
    target = torch.from_numpy(sound(6000))[None]
    wave = (0.9 * target).requires_grad_()
    codec = NNFullCodec.from_pretrained()
    loss = (codec(wave) - target).square().mean()
    loss.backward()
    assert torch.isfinite(wave.grad).all()
    with torch.no_grad():
        step = wave - 0.3 * wave.grad * wave.numel()
        assert (codec(step) - target).square().mean() < loss


def test_gradients_are_finite_on_silence_clicks_and_overload():
    codec = NNFullCodec.from_pretrained()
    click = torch.zeros(1, 2, 4096)
    click[..., 2000] = 1.0
    for wave in (torch.zeros(1, 2, 4096), click, torch.ones(1, 1, 4096) * 4, torch.full((1, 1, 1), 1e-30)):
        wave = wave.clone().requires_grad_()
        codec(wave).square().sum().backward()
        assert torch.isfinite(wave.grad).all()


def test_every_intermediate_result_has_a_finite_gradient_from_a_loss_on_pcm(sound):
    wave = torch.from_numpy(sound(512 * 12))[None].requires_grad_()
    codec = NNFullCodec.from_pretrained("reference")
    encoded = codec.encoder.stages(wave)
    batch, decoded = encoded.batch, codec.decoder.stages(encoded.batch)
    made = [wave, batch.bsm, encoded.spectrum, encoded.idsf, batch.idwl, batch.idsf, batch.quantized]
    made += [decoded.spectrum, decoded.bands]
    loss = (decoded.pcm[..., 266:] - wave.detach()[..., :-266]).square().mean()
    for gradient in torch.autograd.grad(loss, made):
        assert torch.isfinite(gradient).all()
        assert gradient.any()


@pytest.mark.parametrize("shape", [(2, 100), (1, 2, 0), (1, 4, 100)])
def test_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ShapeError):
        NNFullCodec.from_pretrained()(torch.zeros(shape))


@torch.no_grad()
def test_decoder_bitexact_and_standard_agree_on_golden_units(golden):
    batch = from_units(golden.units).map(lambda f: f.transpose(0, 1))
    waves = [NNFullCodec.from_pretrained("reference", d).decode(batch).numpy() for d in ("bitexact", "standard")]
    assert np.abs(waves[0] - waves[1]).max() < 2e-6
