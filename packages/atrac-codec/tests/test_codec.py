from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_codec import DECODERS, ENCODERS, Encoded, NNFullCodec, from_aea, from_units
from atrac_modules import FrameBatch, ShapeError


@pytest.mark.parametrize("preset", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("samples", [1, 245, 246, 247, 512, 5000])
@torch.no_grad()
def test_waveform_comes_back_in_its_length_and_place(preset: str, decoder: str, samples: int, sound):
    wave = torch.from_numpy(sound(samples))[None]
    codec = NNFullCodec.from_pretrained(preset, decoder)
    back = codec(wave)
    assert back.shape == wave.shape
    error = (back - wave).square().mean()
    assert error < 0.05 * wave.square().mean()


def test_batch_returned_is_the_one_that_was_used(sound):
    waves = torch.stack([torch.from_numpy(sound(3000, seed=s)) for s in range(2)])
    codec = NNFullCodec.from_pretrained()
    decoded, batch = codec(waves, return_batch=True)
    for k, data in enumerate(codec.to_bytes(batch, samples=3000)):
        assert (codec.from_bytes(data)[0] - decoded[k]).abs().max() < 1e-6
        fields, samples = from_aea(data)
        assert samples == 3000
        assert all(torch.equal(a, b[k]) for a, b in zip(fields, batch, strict=True))


def test_from_bytes_without_a_tag_gives_all_that_the_frames_hold(sound):
    codec = NNFullCodec.from_pretrained()
    batch = codec.encode(torch.from_numpy(sound(3000))[None])
    assert codec.from_bytes(codec.to_bytes(batch)[0]).shape == (1, 2, 7 * 512 - 266)


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


def losses_by_stage(encoded: Encoded, wave: torch.Tensor, codec: NNFullCodec):
    """Yield each stage's input that stands alone before the PCM loss, all other branches cut."""
    encoder, decoder = codec.encoder, codec.decoder
    bands, bsm, spectrum = encoded.bands, encoded.batch.bsm, encoded.spectrum
    rest = encoded.batch.n_bfu

    def loss(fields: FrameBatch) -> torch.Tensor:
        return (decoder(fields)[..., 266:] - wave[..., :-266]).square().mean()

    def cut(x: torch.Tensor) -> torch.Tensor:
        return x.detach().clone().requires_grad_()

    def code(spectrum: torch.Tensor, bsm: torch.Tensor) -> FrameBatch:
        idsf = encoder.scaler(spectrum, bsm)
        chosen = encoder.allocator(spectrum, idsf, bsm)
        quantized = encoder.quantizer(spectrum, idsf, chosen.idwl, bsm)
        return FrameBatch(bsm, chosen.n_bfu, chosen.idwl, idsf, quantized)

    own = cut(wave)
    made = encoder.qmf(own)
    yield "qmf", own, loss(code(encoder.mdct(made, bsm), bsm))
    own = cut(bands)
    yield "transient", own, loss(code(encoder.mdct(bands.detach(), encoder.transient(own)), bsm.detach()))
    own = cut(bands)
    yield "mdct", own, loss(code(encoder.mdct(own, bsm), bsm))
    own = cut(spectrum)
    idsf = encoder.scaler(own, bsm)
    fixed = encoded.batch.idwl.detach()
    yield (
        "scaler",
        own,
        loss(FrameBatch(bsm, rest, fixed, idsf, encoder.quantizer(own, idsf, fixed, bsm))),
    )
    own = cut(encoded.idsf)
    chosen = encoder.allocator(spectrum.detach(), own, bsm)
    values = encoder.quantizer(spectrum.detach(), encoded.idsf, chosen.idwl, bsm)
    yield "allocator", own, loss(FrameBatch(bsm, rest, chosen.idwl, own.detach(), values))
    own = cut(spectrum)
    yield (
        "quantizer",
        own,
        loss(FrameBatch(bsm, rest, fixed, encoded.idsf, encoder.quantizer(own, encoded.idsf, fixed, bsm))),
    )
    own = cut(fixed)
    values = encoder.quantizer(spectrum.detach(), encoded.idsf, own, bsm)
    yield "quantizer by idwl", own, loss(FrameBatch(bsm, rest, own, encoded.idsf, values))
    own = cut(encoded.batch.quantized)
    yield "dequantizer", own, loss(FrameBatch(bsm, rest, fixed, encoded.idsf, own))
    decoded = decoder.stages(encoded.batch)
    own = cut(decoded.spectrum)
    yield "imdct", own, (decoder.iqmf(decoder.imdct(own, bsm))[..., 266:] - wave[..., :-266]).square().mean()
    own = cut(decoded.bands)
    yield "iqmf", own, (decoder.iqmf(own)[..., 266:] - wave[..., :-266]).square().mean()


def test_every_stage_gets_a_finite_gradient_of_its_own_from_a_loss_on_pcm(sound):
    wave = torch.from_numpy(sound(512 * 12))[None]
    codec = NNFullCodec.from_pretrained("reference")
    with torch.no_grad():
        encoded = codec.encoder.stages(wave)
    seen = []
    for name, own, loss in losses_by_stage(encoded, wave, codec):
        (gradient,) = torch.autograd.grad(loss, own)
        assert torch.isfinite(gradient).all(), name
        assert gradient.any(), name
        seen.append(name)
    assert len(seen) == 10


@pytest.mark.parametrize("shape", [(2, 100), (1, 2, 0), (1, 4, 100)])
def test_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ShapeError):
        NNFullCodec.from_pretrained()(torch.zeros(shape))


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match=f"preset 'best', allowed {', '.join(ENCODERS)}"):
        NNFullCodec.from_pretrained("best")
    with pytest.raises(ValueError, match=f"decoder 'worst', allowed {', '.join(DECODERS)}"):
        NNFullCodec.from_pretrained(decoder="worst")


@torch.no_grad()
def test_decoder_bitexact_and_standard_agree_on_golden_units(golden):
    batch = from_units(golden.units).map(lambda f: f.transpose(0, 1))
    waves = [NNFullCodec.from_pretrained("reference", d).decode(batch).numpy() for d in ("bitexact", "standard")]
    assert np.abs(waves[0] - waves[1]).max() < 2e-6
