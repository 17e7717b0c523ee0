from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_bitstream.tables import BFU_AMOUNTS
from atrac_codec import ENCODERS, build_decoder, build_encoder, to_units
from atrac_modules import ShapeError, used_value_bits, value_bits


@torch.no_grad()
def test_preset_bitexact_writes_the_golden_sound_units(golden):
    units = to_units(build_encoder("bitexact")(torch.from_numpy(golden.pcm)[None]))[0]
    assert np.array_equal(units.swapaxes(0, 1), golden.units)


@pytest.mark.parametrize("preset", ENCODERS)
@torch.no_grad()
def test_every_preset_makes_legal_frames(preset: str, sound):
    encoded = build_encoder(preset).stages(torch.from_numpy(sound(512 * 20))[None])
    batch = encoded.batch
    assert [tuple(f.shape) for f in batch] == [(1, 2, 20, n) if n else (1, 2, 20) for n in (3, 0, 52, 52, 512)]
    assert all(torch.equal(f, f.round()) for f in batch)
    assert set(batch.n_bfu.unique().tolist()) <= set(map(float, BFU_AMOUNTS))
    assert (used_value_bits(batch.idwl) <= value_bits(batch.n_bfu)).all()
    beyond = torch.arange(52) >= batch.n_bfu[..., None]
    assert not batch.idsf[beyond].any()
    assert encoded.idsf[beyond].any(), "the scaler's own indices are kept"
    assert encoded.loudness.shape == (1, 20)
    assert torch.equal(encoded.loudness[:, -1], encoded.loudness_end)


@pytest.mark.parametrize("preset", ENCODERS)
@torch.no_grad()
def test_lead_frames_and_loudness_carry_a_recording_on(preset: str, sound):
    wave = torch.from_numpy(sound(512 * 30))[None]
    encoder = build_encoder(preset)
    whole = encoder.stages(wave)
    first = encoder.stages(wave[..., : 512 * 12])
    second = encoder.stages(wave[..., 512 * 10 :], lead_frames=2, loudness=first.loudness_end)
    units = np.concatenate([to_units(first.batch), to_units(second.batch)], axis=2)
    same = (units == to_units(whole.batch)).all(-1)
    assert same.all() if preset == "bitexact" else same.mean() > 0.9
    torch.testing.assert_close(second.bands, whole.bands[:, :, 12:], rtol=0, atol=2e-6)


@torch.no_grad()
def test_recordings_of_a_batch_do_not_touch_each_other(sound):
    waves = torch.stack([torch.from_numpy(sound(512 * 9, seed=s)) * 10.0**-s for s in range(3)])
    encoder = build_encoder("bitexact")
    together = to_units(encoder(waves))
    for k in range(3):
        assert np.array_equal(together[k], to_units(encoder(waves[k : k + 1]))[0])


@torch.no_grad()
def test_an_allocator_may_move_scale_factors_and_the_values_follow(sound):
    wave = torch.from_numpy(sound(512 * 12))[None]
    encoded = build_encoder("rd").stages(wave)
    carried = torch.arange(52) < encoded.batch.n_bfu[..., None]
    assert (encoded.batch.idsf != encoded.idsf * carried).any()
    assert torch.equal(encoded.batch.idsf, encoded.allocation.idsf * carried)
    error = build_decoder()(encoded.batch)[..., 266:] - wave[..., :-266]
    assert error.square().mean() < 0.03 * wave.square().mean()


@pytest.mark.parametrize("shape", [(2, 512), (1, 3, 512), (1, 2, 500), (1, 2, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ShapeError, match="pcm is"):
        build_encoder()(torch.zeros(shape))
