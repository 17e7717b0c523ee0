"""Encoding and decoding 60 s of stereo in memory, against FFmpeg decoding the same file through PyAV."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
def pcm() -> np.ndarray:
    """Tones that come and go, over noise."""
    rng = np.random.default_rng(0)
    time = np.arange(SECONDS * 44100) / 44100
    tones = sum(np.sin(2 * np.pi * f * time) * (np.sin(2 * np.pi * time / f) > 0) for f in (110, 523, 2093, 7902))
    return np.stack([0.1 * tones + 0.01 * rng.standard_normal(len(time)) for _ in range(2)]).astype(np.float32)


@pytest.fixture(scope="module")
def units(pcm) -> np.ndarray:
    """Sound units of it."""
    stream = StreamEncoder(build_encoder(), 2)
    return np.concatenate([stream.push(pcm), stream.finish()])


@pytest.mark.parametrize("preset", ENCODERS)
def test_encode(benchmark, pcm, preset):
    benchmark.group = "whole file"
    encoder = build_encoder(preset)

    def encode() -> None:
        stream = StreamEncoder(encoder, 2)
        stream.push(pcm)
        stream.finish()

    benchmark.pedantic(encode, rounds=7, warmup_rounds=1)


@pytest.mark.parametrize("name", DECODERS)
def test_decode(benchmark, units, name):
    benchmark.group = "whole file"
    decoder = build_decoder(name)

    def decode() -> None:
        stream = StreamDecoder(decoder, 2)
        stream.push(units)
        stream.finish()

    benchmark.pedantic(decode, rounds=7, warmup_rounds=1)


def test_peer_ffmpeg_decodes(benchmark, units):
    benchmark.group = "whole file"
    aea = to_aea(from_units(units).map(lambda f: f.transpose(0, 1)))
    benchmark.pedantic(ffmpeg_decode, [aea], rounds=7, warmup_rounds=1)


def test_layer_forward_and_backward(benchmark, pcm):
    benchmark.group = "layer"
    codec = NNFullCodec.from_pretrained()
    wave = torch.from_numpy(pcm[:, : 10 * 44100]).unflatten(1, (10, -1)).transpose(0, 1).contiguous()

    def step() -> None:
        x = wave.clone().requires_grad_()
        (codec(x) - wave).square().mean().backward()

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
