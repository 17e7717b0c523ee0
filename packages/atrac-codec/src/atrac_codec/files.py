"""Files: audio to AEA and back, in constant memory; files are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import (
    CODEC_DELAY,
    AeaError,
    AeaHeader,
    AeaReader,
    AeaWriter,
    Damage,
    DamagePolicy,
    RaiseDamage,
    describe_damage,
)
from atrac_bitstream.tables import FRAME_SAMPLES, SAMPLE_RATE, SOUND_UNIT_BYTES
from atrac_codec.audio import AudioReader, AudioWriter
from atrac_codec.chunks import CHUNK_FRAMES
from atrac_codec.decoder import NNDecoder
from atrac_codec.encoder import NNEncoder
from atrac_codec.stream import StreamDecoder, StreamEncoder

Progress = Callable[[float], None]
"""Called with the seconds processed so far."""
File = str | os.PathLike[str] | BinaryIO
"""A path, or a binary file object, which is left open."""


@dataclass(frozen=True)
class EncodeReport:
    """The result of encoding a file.

    Args:
        channels: 1 or 2.
        samples: PCM samples per channel, at 44.1 kHz.
        frames: frames written.
        peak: largest magnitude of a sample.
        over: samples with a magnitude over 1, full scale.
    """

    channels: int
    samples: int
    frames: int
    peak: float
    over: int

    def warnings(self) -> Iterator[str]:
        """Yield what a user should know."""
        if self.over:
            over = f"{self.over} samples over full scale, the largest {self.peak:.3f}"
            yield f"{over}; those beyond the largest scale factor are clipped"


@dataclass(frozen=True)
class DecodeReport:
    """The result of decoding a file.

    Args:
        channels: 1 or 2.
        samples: PCM samples per channel written.
        frames: frames read.
        clipped: samples clipped at full scale, because the sample format is an integer one.
        missing: samples per channel that the length tag counts but the frames do not hold.
        damages: sound units that could not be read and were replaced.
    """

    channels: int
    samples: int
    frames: int
    clipped: int
    missing: int
    damages: tuple[Damage, ...]

    def warnings(self) -> Iterator[str]:
        """Yield what a user should know."""
        if self.damages:
            yield f"damaged sound units: {describe_damage(self.damages)}"
        if self.clipped:
            yield f"{self.clipped} samples over full scale were clipped; --samples float keeps them"
        if self.missing:
            yield f"{self.missing} samples that its length tag counts are missing"


def encode_file(
    source: File,
    target: File,
    encoder: NNEncoder,
    *,
    title: str | None = None,
    length_tag: bool = True,
    progress: Progress = lambda seconds: None,
) -> EncodeReport:
    """Encode an audio file to an AEA file.

    Args:
        source: any file that libsndfile reads, at any sampling rate, mono or stereo.
        target: the AEA file, replaced if it exists.
        encoder: encoder to use.
        title: title to write; None takes the source's tag, or else its name.
        length_tag: write the number of samples, so that decoding returns exactly those.
        progress: called with the seconds processed so far.

    Raises:
        AtracError: the source is not audio, or audio that the codec cannot encode.
        OSError: a file cannot be read or written.
    """
    peak, over = 0.0, 0
    with AudioReader(source) as reader:
        if title is None:
            title = reader.title or (Path(source).stem if isinstance(source, str | os.PathLike) else "")
        stream = StreamEncoder(encoder, reader.channels)
        with AeaWriter(target, reader.channels, title) as writer:
            for block in reader.blocks():
                magnitude = np.abs(block)
                peak = max(peak, float(magnitude.max()))
                over += int((magnitude > 1).sum())
                writer.write(stream.push(block))
                progress(stream.samples / SAMPLE_RATE)
            writer.write(stream.finish())
            writer.samples = stream.samples if length_tag else None
    return EncodeReport(reader.channels, stream.samples, writer.frames, peak, over)


def decode_file(
    source: File,
    target: File,
    decoder: NNDecoder,
    *,
    samples: str = "16",
    keep_delay: bool = False,
    damage: DamagePolicy | None = None,
    header: AeaHeader | None = None,
    progress: Progress = lambda seconds: None,
) -> DecodeReport:
    """Decode an AEA file to an audio file.

    Args:
        source: the AEA file.
        target: the audio file, replaced if it exists, whose ending names the format; a file object receives WAV.
        decoder: decoder to use.
        samples: sample format, `16`, `24` or `float`.
        keep_delay: write every sample of the frames, as other decoders do, instead of leaving out the codec's delay
            of 266 samples and the samples that the length tag does not count.
        damage: how to replace sound units that cannot be read; None raises an error.
        header: the header to use for a file that consists of sound units alone.
        progress: called with the seconds processed so far.

    Raises:
        AtracError: the source is not an AEA file, empty, or damaged; the target's format cannot be written.
        OSError: a file cannot be read or written.
    """
    written = 0
    with (
        AeaReader(source, damage or RaiseDamage(), header=header) as reader,
        AudioWriter(target, reader.channels, samples, reader.header.title) as writer,
    ):
        for pcm in decoded_blocks(reader, decoder, keep_delay):
            writer.write(pcm)
            written += pcm.shape[1]
            progress(reader.position * FRAME_SAMPLES / SAMPLE_RATE)
    tag = None if keep_delay else reader.header.samples
    missing = max(0, (tag or 0) - written)
    return DecodeReport(reader.channels, written, reader.position, writer.clipped, missing, tuple(reader.damages))


def audio_duration(path: str) -> float:
    """Return the seconds of an audio file according to its header. Raises: AudioError, OSError."""
    with AudioReader(path) as reader:
        return reader.duration


def aea_duration(path: str) -> float:
    """Return the seconds of a stereo AEA file according to its size. Raises: OSError."""
    return Path(path).stat().st_size / (2 * SOUND_UNIT_BYTES) * FRAME_SAMPLES / SAMPLE_RATE


def decoded_blocks(reader: AeaReader, decoder: NNDecoder, keep_delay: bool = False) -> Iterator[NDArray[np.float32]]:
    """Decode an open AEA file block by block.

    Args:
        reader: the file, at its start.
        decoder: decoder to use.
        keep_delay: see `decode_file`.

    Shape:  [C, n] each
    Raises: AtracError: the file has no sound units, or damaged ones; OSError.
    """
    stream = StreamDecoder(decoder, reader.channels)
    skip = 0 if keep_delay else CODEC_DELAY
    left = None if keep_delay else reader.header.samples

    def decoded() -> Iterator[NDArray[np.float32]]:
        for units in reader.blocks(CHUNK_FRAMES):
            yield stream.push(units)
        if not reader.position:
            raise AeaError("no sound units")
        yield stream.finish()

    for pcm in decoded():
        kept = pcm[:, skip:]
        skip -= pcm.shape[1] - kept.shape[1]
        kept = kept[:, :left]
        if left is not None:
            left -= kept.shape[1]
        yield kept
