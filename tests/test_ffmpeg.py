"""FFmpeg 8 takes every file we write, of any length, and hears what we hear."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from atrac_bitstream import readable_value_bits
from atrac_bitstream.tables import BFU_SIZES, WORD_LENGTHS
from atrac_codec import ENCODERS, StreamEncoder, bridge, build_decoder, build_encoder
from atrac_codec.outside import ffmpeg_decode
from atrac_data import render


def encode(pcm: np.ndarray, preset: str) -> bytes:
    stream = StreamEncoder(build_encoder(preset), len(pcm))
    units = np.concatenate([stream.push(pcm), stream.finish()])
    return bridge.to_aea(bridge.from_units(units).map(lambda f: f.transpose(0, 1)), stream.samples)


def packets(aea: bytes) -> tuple[int, int]:
    """Return how many packets FFmpeg reads and how many frames it decodes from them."""
    with av.open(io.BytesIO(aea), format="aea") as container:
        found = [packet for packet in container.demux(container.streams.audio[0]) if packet.size]
        return len(found), sum(len(packet.decode()) for packet in found)


LENGTHS = [1, 2, 245, 246, 247, 511, 512, 513, 3830, 3831, 40_000]
CASES = [*(("reference", samples) for samples in LENGTHS), *((preset, 513) for preset in ENCODERS)]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("preset", "samples"), CASES)
def test_ffmpeg_gives_512_samples_for_each_frame(preset: str, samples: int, channels: int):
    pcm = render("music", seconds=1.0, seed=3, channels=channels)[:, :samples]
    aea = encode(pcm, preset)
    frames = -(-(samples + 266) // 4096) * 8
    assert ffmpeg_decode(aea).shape == (channels, 512 * frames)
    assert packets(aea) == (frames, frames)


@pytest.mark.slow
def test_ffmpeg_takes_ten_minutes():
    pcm = np.tile(render("attacks", seconds=20.0, seed=1, channels=1), 30)
    aea = encode(pcm, "reference")
    frames = -(-(600 * 44100 + 266) // 4096) * 8
    assert packets(aea) == (frames, frames)


def test_units_that_others_fill_to_the_brim_are_decoded_as_ffmpeg_decodes_them():
    # Values up to 1664 - 10 n_bfu bits, which we never write ourselves.
    rng = np.random.default_rng(0)
    idwl = np.zeros((16, 1, 52), np.int64)
    idwl[..., :20] = 10
    idwl[..., [4, 5, 6, 7]] = 12
    idwl[..., :3] = 11
    assert (WORD_LENGTHS[idwl] @ BFU_SIZES == readable_value_bits(20)).all()
    units = bridge.pack_units(
        np.zeros((16, 1, 3), np.int64), np.full((16, 1), 20), idwl,
        np.where(idwl > 0, 45, 0), rng.integers(-500, 500, (16, 1, 512)) * (np.arange(512) < 128),
    )  # fmt: skip
    batch = bridge.from_units(units).map(lambda f: f.transpose(0, 1))
    outside = ffmpeg_decode(bridge.to_aea(batch))
    assert np.abs(build_decoder()(batch).numpy() - outside).max() < 1e-5
