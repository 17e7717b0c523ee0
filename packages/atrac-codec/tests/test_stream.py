from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_codec import (
    DECODERS,
    ENCODERS,
    StreamDecoder,
    StreamEncoder,
    build_decoder,
    build_encoder,
    from_units,
)
from atrac_codec.stream import CHUNK_FRAMES

CHUNK = 512 * CHUNK_FRAMES


def encode_in_pieces(preset: str, pcm, sizes) -> np.ndarray:
    stream = StreamEncoder(build_encoder(preset), len(pcm))
    units, at, k = [], 0, 0
    while at < pcm.shape[1]:
        size = sizes[k % len(sizes)]
        units.append(stream.push(pcm[:, at : at + size]))
        at, k = at + size, k + 1
    units.append(stream.finish())
    assert stream.samples == pcm.shape[1]
    return np.concatenate(units)


@pytest.mark.parametrize("preset", ENCODERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_bytes_do_not_depend_on_how_samples_arrive(preset: str, channels: int, sound):
    pcm = sound(2 * CHUNK + 777, channels)
    whole = encode_in_pieces(preset, pcm, [pcm.shape[1]])
    assert len(whole) % 8 == 0
    assert 0 <= 512 * len(whole) - 266 - pcm.shape[1] < 8 * 512
    for sizes in ([CHUNK], [CHUNK - 512, CHUNK + 512], [511, 513, 7], [65_536]):
        assert np.array_equal(encode_in_pieces(preset, pcm, sizes), whole), sizes


@pytest.mark.parametrize("samples", [1, CHUNK - 267, CHUNK - 266, CHUNK - 265, CHUNK, CHUNK + 1])
def test_every_length_around_a_chunk_has_its_frames(samples: int):
    units = encode_in_pieces("reference", np.full((1, samples), 0.1, np.float32), [samples])
    assert len(units) == -(-(samples + 266) // 4096) * 8


def test_chunks_of_preset_bitexact_equal_one_pass(sound):
    from atrac_codec import to_units

    pcm = sound(CHUNK + 44_032 - 266)
    units = encode_in_pieces("bitexact", pcm, [10_000])
    padded = np.pad(pcm, ((0, 0), (0, 512 * len(units) - pcm.shape[1])))
    with torch.no_grad():
        whole = to_units(build_encoder("bitexact")(torch.from_numpy(padded)[None]))[0]
    assert np.array_equal(units, whole.swapaxes(0, 1))


@pytest.mark.parametrize("decoder", DECODERS)
def test_samples_do_not_depend_on_how_units_arrive(decoder: str, golden):
    units = np.tile(golden.units, (-(-(2 * CHUNK_FRAMES + 9) // len(golden.units)), 1, 1))
    with torch.no_grad():
        whole = build_decoder(decoder)(from_units(units).map(lambda f: f.transpose(0, 1))).numpy()
    for sizes in ([1, 7], [CHUNK_FRAMES], [CHUNK_FRAMES + 1, CHUNK_FRAMES - 1], [len(units)]):
        stream = StreamDecoder(build_decoder(decoder), units.shape[1])
        parts, at, k = [], 0, 0
        while at < len(units):
            parts.append(stream.push(units[at : at + sizes[k % len(sizes)]]))
            at, k = at + sizes[k % len(sizes)], k + 1
        got = np.concatenate([*parts, stream.finish()], axis=1)
        assert got.shape == whole.shape
        assert np.abs(got - whole).max() <= (0 if decoder == "bitexact" else 1e-6)


def test_nothing_in_is_silence_or_nothing_out():
    stream = StreamEncoder(build_encoder(), 2)
    assert stream.finish().shape == (8, 2, 212)
    assert StreamDecoder(build_decoder(), 2).finish().shape == (2, 0)


def test_the_callers_arrays_may_be_used_again(sound, golden):
    pcm, buffer = sound(20_000), np.zeros((2, 1000), np.float32)
    stream, reused = (StreamEncoder(build_encoder(), 2) for _ in range(2))
    for at in range(0, 20_000, 1000):
        buffer[:] = pcm[:, at : at + 1000]
        reused.push(buffer)
    stream.push(pcm)
    buffer[:] = 0
    assert np.array_equal(reused.finish(), stream.finish())

    units = golden.units.copy()
    decoder, other = (StreamDecoder(build_decoder(), units.shape[1]) for _ in range(2))
    decoder.push(units)
    units[:] = 0xFF
    other.push(golden.units)
    assert np.array_equal(decoder.finish(), other.finish())


def test_other_shapes_are_refused_with_the_expected_one():
    with pytest.raises(ValueError, match=r"pcm is \[1, 5\], expected \[2, n\]"):
        StreamEncoder(build_encoder(), 2).push(np.zeros((1, 5), np.float32))
    with pytest.raises(ValueError, match=r"units is uint8 \[3, 1, 212\], expected uint8 \[F, 2, 212\]"):
        StreamDecoder(build_decoder(), 2).push(np.zeros((3, 1, 212), np.uint8))
    with pytest.raises(ValueError, match="units is float64"):
        StreamDecoder(build_decoder(), 2).push(np.zeros((3, 2, 212)))


def test_samples_may_come_one_at_a_time(sound):
    pcm = sound(3000, 1)
    one = encode_in_pieces("reference", pcm, [1])
    assert np.array_equal(one, encode_in_pieces("reference", pcm, [3000]))
