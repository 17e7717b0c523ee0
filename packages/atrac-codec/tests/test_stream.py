"""Streams: bytes and samples depend on the recording alone, not on how it arrives, on threads, or on chunks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from atrac_bitstream import AeaHeader, AeaReader
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
    to_units,
)
from atrac_codec.chunks import CHUNK_FRAMES, Chunks, padded_chunks
from atrac_codec.cli import main

SMALL = 4 * 512
"""Samples of a small chunk."""
CHUNK = 512 * CHUNK_FRAMES


def in_pieces(stream, data, sizes, axis: int) -> np.ndarray:
    """Push pieces of these lengths in turn; return everything joined."""
    parts, at, k = [], 0, 0
    while at < data.shape[axis]:
        end = at + sizes[k % len(sizes)]
        parts.append(stream.push(data[:, at:end] if axis else data[at:end]))
        at, k = end, k + 1
    return np.concatenate([*parts, stream.finish()], 1 - axis)


def encoded(preset: str, pcm, sizes) -> np.ndarray:
    return in_pieces(StreamEncoder(build_encoder(preset), len(pcm)), pcm, sizes, 1)


def decoded(decoder: str, units, sizes) -> np.ndarray:
    return in_pieces(StreamDecoder(build_decoder(decoder), units.shape[1]), units, sizes, 0)


class Trickle(io.BytesIO):
    """Reads as a socket does: cannot seek, and gives at most a thousand bytes at a time."""

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = -1) -> bytes:
        return super().read(1000 if size is None or size < 0 else min(size, 1000))


@pytest.fixture
def threads():
    """Set the number of threads; as before at the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("preset", ENCODERS)
@pytest.mark.parametrize("channels", [1, 2])
def test_bytes_do_not_depend_on_how_samples_arrive(preset: str, channels: int, sound, small_chunks):
    pcm = sound(2 * SMALL + 777, channels)
    whole = encoded(preset, pcm, [pcm.shape[1]])
    for sizes in ([7], [511], [512], [SMALL - 512, 1289], [SMALL + 512], [SMALL]):
        assert np.array_equal(encoded(preset, pcm, sizes), whole), sizes


@pytest.mark.parametrize("decoder", DECODERS)
def test_samples_do_not_depend_on_how_units_arrive(decoder: str, golden, small_chunks):
    whole = decoded(decoder, golden.units, [len(golden.units)])
    assert whole.shape == (golden.units.shape[1], 512 * len(golden.units))
    for sizes in ([1], [3], [4], [5], [1, 7]):
        assert np.array_equal(decoded(decoder, golden.units, sizes), whole), sizes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["neural", "bitexact"])
def test_neither_depends_on_the_number_of_threads(name: str, sound, threads):
    pcm, got = sound(CHUNK - 266), []
    for number in (1, 2):
        threads(number)
        units = encoded(name, pcm, [CHUNK // number])
        got.append((units, decoded(name, units, [CHUNK_FRAMES // number])))
    assert all(np.array_equal(*pair) for pair in zip(*got, strict=True))


@pytest.mark.parametrize("preset", ENCODERS)
def test_files_pipes_and_file_objects_give_the_bytes_of_arrays(
    preset: str, wav, sound, tmp_path, piped, stdin, small_chunks
):
    samples, target = SMALL + 777, tmp_path / "x.aea"
    source = wav(samples)
    data, units = source.read_bytes(), encoded(preset, sound(samples), [samples])
    stdin(data)
    for file in (source, io.BytesIO(data), piped(data), Trickle(data), None):
        if file is None:
            assert main(["encode", "-", "--preset", preset, "-o", str(target), "--force"]) == 0
        else:
            encode_file(file, target, build_encoder(preset))
        with AeaReader(target) as reader:
            assert reader.header.samples == samples
            assert np.array_equal(reader.read(), units)


@pytest.mark.parametrize("decoder", DECODERS)
def test_files_pipes_and_file_objects_give_the_samples_of_arrays(
    decoder: str, aea, tmp_path: Path, piped, stdin, small_chunks
):
    data, source, target = aea(), tmp_path / "x.aea", tmp_path / "x.wav"
    source.write_bytes(data)
    units = AeaReader(io.BytesIO(data)).read()
    pcm = decoded(decoder, units, [len(units)])
    stdin(data)
    command = ["decode", "-", "--decoder", decoder, "--samples", "float", "--keep-delay", "--force", "-o", str(target)]
    raw = piped(units.tobytes())
    for file in (source, io.BytesIO(data), piped(data), Trickle(data), raw, None):
        if file is None:
            assert main(command) == 0
        else:
            header = AeaHeader.make(2) if file is raw else None
            decode_file(file, target, build_decoder(decoder), samples="float", keep_delay=True, header=header)
        assert np.array_equal(soundfile.read(target, dtype="float32", always_2d=True)[0].T, pcm)


@pytest.mark.parametrize("samples", [1, 246, 247, SMALL - 266, SMALL - 265, SMALL, 3 * SMALL + 7])
def test_every_length_has_its_frames_and_all_its_samples(samples: int, small_chunks):
    assert (
        len(encoded("reference", np.full((1, samples), 0.1, np.float32), [samples])) == -(-(samples + 266) // 4096) * 8
    )
    pcm = np.arange(1, 2 * samples + 1, dtype=np.float32).reshape(2, -1)
    cut = list(padded_chunks(np.split(pcm, [samples // 3, samples // 2], axis=1)))
    assert all(chunk.shape[1] % 512 == 0 and chunk.shape[1] <= SMALL for chunk, _ in cut)
    joined = np.concatenate([chunk for chunk, _ in cut], axis=1)
    assert joined.shape[1] == 512 * -(-(samples + 266) // 512)
    assert np.array_equal(joined[:, :samples], pcm)
    assert not joined[:, samples:].any()
    assert cut[-1][1] == samples


def test_chunks_of_preset_bitexact_equal_one_pass(sound):
    pcm = sound(CHUNK + 44_032 - 266)
    units = encoded("bitexact", pcm, [10_000])
    padded = np.pad(pcm, ((0, 0), (0, 512 * len(units) - pcm.shape[1])))
    with torch.no_grad():
        whole = to_units(build_encoder("bitexact")(torch.from_numpy(padded)[None]))[0]
    assert np.array_equal(units, whole.swapaxes(0, 1))


@pytest.mark.parametrize(("decoder", "tolerance"), [("standard", 1e-6), ("bitexact", 0), ("neural", 1e-5)])
def test_chunks_of_units_give_what_one_pass_gives(decoder: str, tolerance: float, golden, small_chunks):
    """Matrix products of other sizes may sum in another order, but not those of the reference codec."""
    with torch.no_grad():
        whole = build_decoder(decoder)(from_units(golden.units).map(lambda f: f.transpose(0, 1))).numpy()
    assert np.abs(decoded(decoder, golden.units, [5, 3]) - whole).max() <= tolerance


def test_nothing_in_is_silence_or_nothing_out():
    assert StreamEncoder(build_encoder(), 2).finish().shape == (8, 2, 212)
    assert StreamDecoder(build_decoder(), 2).finish().shape == (2, 0)
    assert not list(padded_chunks([np.zeros((2, 0), np.float32)]))


def test_the_callers_arrays_may_be_used_again():
    chunks, buffer = Chunks(5, 0, np.zeros(0, np.float32)), np.zeros(3, np.float32)
    for value in (1, 2):
        buffer[:] = value
        found = chunks.push(buffer)
    assert found[0].tolist() == [1, 1, 1, 2, 2]


def test_other_shapes_are_refused_with_the_expected_one():
    with pytest.raises(ValueError, match=r"pcm is \[1, 5\], expected \[2, n\]"):
        StreamEncoder(build_encoder(), 2).push(np.zeros((1, 5), np.float32))
    for wrong, said in ((np.zeros((3, 1, 212), np.uint8), r"uint8 \[3, 1, 212\]"), (np.zeros((3, 2, 212)), "float64")):
        with pytest.raises(ValueError, match=rf"units is {said}.*, expected uint8 \[F, 2, 212\]"):
            StreamDecoder(build_decoder(), 2).push(wrong)
