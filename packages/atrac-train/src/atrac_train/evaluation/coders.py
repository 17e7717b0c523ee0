"""Encoders and decoders to compare: presets, codec folders, outside programs, FFmpeg."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch

from atrac_bitstream import AeaReader
from atrac_codec import StreamDecoder, build_decoder, build_encoder, encode_file
from atrac_codec.outside import ffmpeg_decode
from atrac_train.evaluation.outside import ENCODER_PLACES, Program, ProgramError, Sound

FFMPEG: Final = "ffmpeg"
"""Name of the default decoder, an independent one, to avoid self-grading."""
Encode = Callable[[Path, Path], object]
"""Encodes a 16-bit WAV file, the first path, to an AEA file, the second."""
Decode = Callable[[Path], Sound]
"""Returns the samples of an AEA file, with the codec's delay. Shape: [C, N]."""


def found_device(name: str) -> torch.device:
    """Return a torch device that is available. Raises: ValueError."""
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts that it has it
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error


def preset_encoder(name: str, device: torch.device) -> Encode:
    """Return the encoder of a preset or a codec folder; `NAME@EFFORT` selects another effort than the default.

    Raises: ValueError, AtracError, OSError
    """
    preset, _, effort = name.partition("@")
    encoder = build_encoder(preset, effort or "default").to(device).eval()
    return lambda wav, aea: encode_file(wav, aea, encoder)


def outside_encoder(program: Program) -> Encode:
    """Return the encoder of an outside program."""

    def encode(wav: Path, aea: Path) -> None:
        program.run(**dict(zip(ENCODER_PLACES, (wav, aea))))
        if not aea.exists():
            raise ProgramError(f"{program.name}: no file")

    return encode


def decoder(name: str, device: torch.device) -> Decode:
    """Return a decoder: FFmpeg's, or ours by name or of a codec folder. Raises: ValueError, AtracError, OSError."""
    if name == FFMPEG:
        return lambda aea: ffmpeg_decode(aea.read_bytes()).astype(np.float32, copy=False)
    module = build_decoder(name).to(device).eval()

    def decode(aea: Path) -> Sound:
        with AeaReader(aea) as reader:
            stream = StreamDecoder(module, reader.channels)
            return np.concatenate([stream.push(reader.read()), stream.finish()], axis=1)

    return decode
