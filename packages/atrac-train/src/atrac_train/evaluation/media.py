"""The sounds and the picture of a recording in a report."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from atrac_bitstream import AeaReader, unpack_units
from atrac_bitstream.tables import FRAME_SAMPLES, SAMPLE_RATE

ORIGINAL: Final = "original"
"""Name of the original among the versions of a recording."""


@dataclass(frozen=True)
class Media:
    """The sounds and the picture of a recording.

    Args:
        recording: path that names it.
        sounds: FLAC file of each version, `ORIGINAL` first.
        picture: a PNG file.
    """

    recording: str
    sounds: dict[str, bytes]
    picture: bytes


def flac(sound: NDArray[np.float32]) -> bytes:
    """Return a FLAC file of 16 bits; samples above full scale are clipped. Shape: [C, N]."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(sound, -1, 32767 / 32768).T, SAMPLE_RATE, "PCM_16", format="FLAC")
    return file.getvalue()


def read_idwl(aea: Path, samples: int) -> NDArray[np.int32]:
    """Read the word length indices of the first channel, as far as the first samples reach. Shape: [F, 52].

    Sound unit f begins 266 samples before sample 512 f of the decoded sound, which is less than a picture shows.

    Raises: AtracError, OSError
    """
    with AeaReader(aea) as reader:
        units = reader.read()
    return unpack_units(np.ascontiguousarray(units[: -(-samples // FRAME_SAMPLES), 0])).idwl


def draw(title: str, sounds: dict[str, NDArray[np.float32]], idwl: dict[str, NDArray[np.int32]], path: Path) -> Path:
    """Draw the first channels of the versions of a recording, see `draw_recording`. Raises: OSError."""
    from atrac_train.pictures.codec import draw_recording  # loads matplotlib

    return draw_recording(f"{title}, first channel", {name: sound[0] for name, sound in sounds.items()}, idwl, path)
