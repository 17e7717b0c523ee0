"""Encoding and decoding 60 s of stereo in memory, against FFmpeg decoding the same file through PyAV."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atrac_bitstream import AeaReader, pack_units, unpack_units
from atrac_codec import (
    DECODERS,
    ENCODERS,
    NNFullCodec,
    StreamDecoder,
    StreamEncoder,
    build_decoder,
    build_encoder,
    from_units,
    to_aea,
)
from atrac_codec.outside import ffmpeg_decode

SECONDS = 60


@pytest.fixture(scope="module")
def pcm() -> NDArray[np.float32]:
    """Tones that come and go, over noise."""
    rng = np.random.default_rng(0)
    time = np.arange(SECONDS * 44100) / 44100
    tones = sum(np.sin(2 * np.pi * f * time) * (np.sin(2 * np.pi * time / f) > 0) for f in (110, 523, 2093, 7902))
    return np.stack([0.1 * tones + 0.01 * rng.standard_normal(len(time)) for _ in range(2)]).astype(np.float32)


@pytest.fixture(scope="module")
def aea(pcm) -> bytes:
    """It as a file."""
    stream = StreamEncoder(build_encoder("reference"), 2)
    units = np.concatenate([stream.push(pcm), stream.finish()])
    return to_aea(from_units(units).map(lambda f: f.transpose(0, 1)))


@pytest.fixture(scope="module")
def units(aea) -> NDArray[np.uint8]:
    """Its sound units."""
    return AeaReader(io.BytesIO(aea)).read()


@pytest.mark.parametrize("preset", [*ENCODERS, "neural@best"])
def test_encode(in_pairs, aea, pcm, preset):
    name, _, effort = preset.partition("@")
    encoder = build_encoder(name, effort or "default")

    def encode() -> None:
        stream = StreamEncoder(encoder, 2)
        stream.push(pcm)
        stream.finish()

    in_pairs(encode, partial(ffmpeg_decode, aea))


@pytest.mark.parametrize("name", DECODERS)
def test_decode(in_pairs, aea, units, name):
    decoder = build_decoder(name)

    def decode() -> None:
        stream = StreamDecoder(decoder, 2)
        stream.push(units)
        stream.finish()

    in_pairs(decode, partial(ffmpeg_decode, aea))


def test_pack(in_pairs, aea, units):
    fields = unpack_units(units)
    in_pairs(lambda: pack_units(*fields), partial(ffmpeg_decode, aea))


def test_unpack(in_pairs, aea, units):
    in_pairs(lambda: unpack_units(units), partial(ffmpeg_decode, aea))


@pytest.mark.parametrize("part", ["forward", "forward_and_backward"])
@pytest.mark.parametrize("preset", [name for name in ENCODERS if name != "bitexact"])
def test_layer(in_pairs, pcm, preset, part):
    """The layer on ten items of a second of stereo, against FFmpeg decoding as much."""
    codec = NNFullCodec.from_pretrained(preset)
    wave = torch.from_numpy(pcm[:, : 10 * 44100]).unflatten(1, (10, -1)).transpose(0, 1).contiguous()
    with torch.no_grad():
        files = codec.to_bytes(codec.encode(wave))

    def step() -> None:
        own = wave.clone().requires_grad_(part != "forward")
        with torch.set_grad_enabled(part != "forward"):
            loss = (codec(own) - wave).square().mean()
        if part != "forward":
            loss.backward()

    in_pairs(step, lambda: [ffmpeg_decode(file) for file in files])
