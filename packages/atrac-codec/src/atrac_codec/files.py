"""Files: audio to AEA and back, a chunk at a time, whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import CODEC_DELAY, AeaReader, AeaWriter
from atrac_bitstream.tables import FRAME_SAMPLES
from atrac_codec.audio import STREAM, AudioReader, AudioWriter
from atrac_codec.decoder import NNDecoder
from atrac_codec.encoder import NNEncoder
from atrac_codec.stream import CHUNK_FRAMES, StreamDecoder, StreamEncoder

Progress = Callable[[float], None]
"""Is told the seconds of audio that are done."""
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class EncodeReport:
    """What encoding a file did.

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


@dataclass(frozen=True)
class DecodeReport:
    """What decoding a file did.

    Args:
        channels: 1 or 2.
        samples: PCM samples per channel written.
        frames: frames read.
        clipped: samples cut at full scale, because the sample format holds no more.
        missing: samples per channel that the length tag promises but the frames do not hold.
    """

    channels: int
    samples: int
    frames: int
    clipped: int
    missing: int


def encode_file(
    source: PathLike,
    target: PathLike,
    encoder: NNEncoder,
    *,
    title: str | None = None,
    length_tag: bool = True,
    progress: Progress = lambda seconds: None,
) -> EncodeReport:
    """Encode an audio file to an AEA file.

    Args:
        source: any file libsndfile reads, at any sampling rate, mono or stereo; `-` for standard input.
        target: the AEA file, replaced if it exists; `-` for standard output.
        encoder: encoder to use.
        title: title to write; None takes the source's tag, or else its name.
        length_tag: write the number of samples, so that decoding gives back exactly those.
        progress: is told the seconds of audio that are done.

    Raises:
        AtracError: the source is no audio, or audio the codec cannot take.
        OSError: a file cannot be read or written.
    """
    peak, over = 0.0, 0
    with AudioReader(source) as reader:
        if title is None:
            title = reader.title or ("" if str(source) == STREAM else Path(source).stem)
        stream = StreamEncoder(encoder, reader.channels)
        with AeaWriter(_aea_target(target), reader.channels, title) as writer:
            for block in reader.blocks():
                magnitude = np.abs(block)
                peak = max(peak, float(magnitude.max()))
                over += int((magnitude > 1).sum())
                writer.write(stream.push(block))
                progress(stream.samples / 44100)
            writer.write(stream.finish())
            writer.samples = stream.samples if length_tag else None
    return EncodeReport(reader.channels, stream.samples, writer.frames, peak, over)


def decode_file(
    source: PathLike,
    target: PathLike,
    decoder: NNDecoder,
    *,
    samples: str = "16",
    keep_delay: bool = False,
    progress: Progress = lambda seconds: None,
) -> DecodeReport:
    """Decode an AEA file to an audio file.

    Args:
        source: the AEA file; `-` for standard input.
        target: the audio file, replaced if it exists, its ending naming the format; `-` for WAV to standard output.
        decoder: decoder to use.
        samples: sample format, `16`, `24` or `float`.
        keep_delay: write every sample the frames hold, as other decoders do, instead of leaving out the codec's
            delay of 266 samples and what the length tag does not count.
        progress: is told the seconds of audio that are done.

    Raises:
        AtracError: the source is no AEA file, or damaged; the target's format cannot be written.
        OSError: a file cannot be read or written.
    """
    with AeaReader(sys.stdin.buffer if str(source) == STREAM else source) as reader:
        stream = StreamDecoder(decoder, reader.channels)
        skip = 0 if keep_delay else CODEC_DELAY
        tag = None if keep_delay else reader.header.samples
        written = 0

        def wanted(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
            nonlocal skip, written
            kept = pcm[:, skip:]
            skip -= pcm.shape[1] - kept.shape[1]
            if tag is not None:
                kept = kept[:, : tag - written]
            written += kept.shape[1]
            return kept

        with AudioWriter(target, reader.channels, samples, reader.header.title) as writer:
            for units in reader.blocks(CHUNK_FRAMES):
                writer.write(wanted(stream.push(units)))
                progress(reader.position * FRAME_SAMPLES / 44100)
            writer.write(wanted(stream.finish()))
    missing = max(0, (tag or 0) - written)
    return DecodeReport(reader.channels, written, reader.position, writer.clipped, missing)


def _aea_target(target: PathLike) -> PathLike | BinaryIO:
    return sys.stdout.buffer if str(target) == STREAM else target
