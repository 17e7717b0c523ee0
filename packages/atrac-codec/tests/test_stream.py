from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
import torch

from atrac_bitstream import AeaHeader, AeaReader, AeaWriter
from atrac_codec import (
    DECODERS,
    ENCODERS,
    StreamDecoder,
    StreamEncoder,
    build_decoder,
    build_encoder,
    decode_file,
    encode_file,
    from_units,
)
from atrac_codec.cli import main
from atrac_codec.stream import CHUNK_FRAMES

CHUNK = 512 * CHUNK_FRAMES
GOLDEN = Path(__file__).parent / "golden" / "units.npz"


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


def decode_in_pieces(decoder: str, units, sizes) -> np.ndarray:
    stream = StreamDecoder(build_decoder(decoder), units.shape[1])
    parts, at, k = [], 0, 0
    while at < len(units):
        size = sizes[k % len(sizes)]
        parts.append(stream.push(units[at : at + size]))
        at, k = at + size, k + 1
    got = np.concatenate([*parts, stream.finish()], axis=1)
    assert got.shape == (units.shape[1], 512 * len(units))
    return got


def loop(channels: int, frames: int) -> np.ndarray:
    """Repeat golden sound units, to [frames, channels, 212]."""
    with np.load(GOLDEN) as file:
        units = file["music_stereo.sound_units" if channels == 2 else "voice_mono.sound_units"]
    return np.tile(units, (-(-frames // len(units)), 1, 1))[:frames]


class Trickle(io.BytesIO):
    """Reads as a socket does: cannot seek, and gives at most a thousand bytes at a time."""

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = -1) -> bytes:
        return super().read(1000 if size is None or size < 0 else min(size, 1000))


@pytest.fixture
def piped():
    """Send bytes through a pipe of the system; return its end to read from."""
    with contextlib.ExitStack() as stack:

        def send(data: bytes) -> BinaryIO:
            read, write = os.pipe()

            def run() -> None:
                with open(write, "wb") as file:
                    file.write(data)

            stack.callback((sender := threading.Thread(target=run)).join)
            sender.start()
            return stack.enter_context(open(read, "rb"))

        yield send


@pytest.fixture
def threads():
    """Set the number of threads; as before at the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


PIECES = [[511], [512], [513], [CHUNK - 512, 1289], [CHUNK + 512], [CHUNK]]
"""Samples that arrive at a time, one after the other."""


@pytest.mark.parametrize("preset", ENCODERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_bytes_do_not_depend_on_how_samples_arrive(preset: str, channels: int, sound):
    pcm = sound(CHUNK + 777, channels)
    whole = encode_in_pieces(preset, pcm, [pcm.shape[1]])
    assert len(whole) % 8 == 0
    assert 0 <= 512 * len(whole) - 266 - pcm.shape[1] < 8 * 512
    for sizes in PIECES:
        assert np.array_equal(encode_in_pieces(preset, pcm, sizes), whole), sizes


@pytest.mark.parametrize("preset", ENCODERS)
def test_bytes_do_not_depend_on_the_number_of_threads(preset: str, sound, threads):
    pcm = sound(CHUNK - 266)
    got = {}
    for number in (1, 2):
        threads(number)
        got[number] = encode_in_pieces(preset, pcm, [CHUNK // number])
    assert np.array_equal(got[1], got[2])


@pytest.mark.parametrize("preset", ENCODERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_may_come_a_few_at_a_time(preset: str, channels: int, sound):
    pcm = sound(3000, channels)
    whole = encode_in_pieces(preset, pcm, [3000])
    for size in (1, 2, 7):
        assert np.array_equal(encode_in_pieces(preset, pcm, [size]), whole), size


@pytest.mark.parametrize("size", [1, 2, 7])
def test_samples_may_come_a_few_at_a_time_over_the_border_of_a_chunk(size: int, sound):
    pcm = sound(CHUNK + 2000)
    whole = encode_in_pieces("reference", pcm, [CHUNK + 2000])
    pieces = encode_in_pieces("reference", pcm, [CHUNK - 20, *[size] * 500, CHUNK])
    assert np.array_equal(pieces, whole)


@pytest.mark.parametrize("preset", ENCODERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_files_pipes_and_file_objects_give_what_arrays_give(
    preset: str, channels: int, wav, sound, tmp_path, piped, monkeypatch
):
    samples = CHUNK + 777
    source, target = wav(samples, channels), tmp_path / "x.aea"
    data = source.read_bytes()
    encoder = build_encoder(preset)

    def units() -> np.ndarray:
        with AeaReader(target) as reader:
            assert reader.header.samples == samples
            return reader.read()

    want = encode_in_pieces(preset, sound(samples, channels), [samples])
    encode_file(source, target, encoder)
    assert np.array_equal(units(), want)
    for file in (io.BytesIO(data), piped(data), Trickle(data)):
        encode_file(file, target, encoder)
        assert np.array_equal(units(), want)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=piped(data)))
    assert main(["encode", "-", "--preset", preset, "-o", str(target), "--force"]) == 0
    assert np.array_equal(units(), want)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_files_pipes_and_file_objects_give_the_samples_that_arrays_give(
    decoder: str, channels: int, tmp_path, piped, monkeypatch
):
    units = loop(channels, CHUNK_FRAMES + 9)
    source, target = tmp_path / "x.aea", tmp_path / "x.wav"
    with AeaWriter(source, channels) as writer:
        writer.write(units)
    data = source.read_bytes()
    want = decode_in_pieces(decoder, units, [len(units)])

    def samples() -> np.ndarray:
        return soundfile.read(target, dtype="float32", always_2d=True)[0].T

    for file in (source, io.BytesIO(data), piped(data), Trickle(data)):
        decode_file(file, target, build_decoder(decoder), samples="float", keep_delay=True)
        assert np.array_equal(samples(), want)
    raw = piped(units.tobytes())
    header = AeaHeader.make(channels)
    decode_file(raw, target, build_decoder(decoder), samples="float", keep_delay=True, header=header)
    assert np.array_equal(samples(), want)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=piped(data)))
    command = ["decode", "-", "--decoder", decoder, "--samples", "float", "--keep-delay", "--force"]
    assert main([*command, "-o", str(target)]) == 0
    assert np.array_equal(samples(), want)


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
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_do_not_depend_on_how_units_arrive(decoder: str, channels: int):
    units = loop(channels, CHUNK_FRAMES + 9)
    whole = decode_in_pieces(decoder, units, [len(units)])
    sizes = [[1], [2], [7], [CHUNK_FRAMES - 1], [CHUNK_FRAMES], [CHUNK_FRAMES + 1], [1, 7]]
    for pieces in sizes:
        assert np.array_equal(decode_in_pieces(decoder, units, pieces), whole), pieces


@pytest.mark.parametrize("decoder", DECODERS)
def test_samples_do_not_depend_on_the_number_of_threads(decoder: str, threads):
    units = loop(2, CHUNK_FRAMES)
    got = {}
    for number in (1, 2):
        threads(number)
        got[number] = decode_in_pieces(decoder, units, [CHUNK_FRAMES // number])
    assert np.array_equal(got[1], got[2])


ONE_PASS_TOLERANCE = {"standard": 1e-6, "bitexact": 0}
"""Matrix products of other sizes may sum in another order; the order of the reference codec is one and the same."""
LEARNED_ONE_PASS_TOLERANCE = 1e-5
"""The same of all other decoders, which have several such products in a row."""


@pytest.mark.parametrize("decoder", DECODERS)
def test_chunks_of_units_give_what_one_pass_gives(decoder: str, golden):
    units = np.tile(golden.units, (-(-(2 * CHUNK_FRAMES + 9) // len(golden.units)), 1, 1))
    with torch.no_grad():
        whole = build_decoder(decoder)(from_units(units).map(lambda f: f.transpose(0, 1))).numpy()
    got = decode_in_pieces(decoder, units, [CHUNK_FRAMES + 1, CHUNK_FRAMES - 1])
    assert got.shape == whole.shape
    assert np.abs(got - whole).max() <= ONE_PASS_TOLERANCE.get(decoder, LEARNED_ONE_PASS_TOLERANCE)


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
