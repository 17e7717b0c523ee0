"""Independent codecs for comparison: FFmpeg's decoder (extra `ffmpeg`), and pytrac where it is installed."""

from __future__ import annotations

import importlib
import io
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.tables import FRAME_SAMPLES

PYTRAC: Final = "github.com/aynik/pytrac"


def ffmpeg_decode(aea: bytes, name_format: bool = True) -> NDArray[np.float32]:
    """Decode an AEA file with FFmpeg, through PyAV.

    Args:
        aea: the file.
        name_format: name the format to FFmpeg; otherwise it guesses, and may fail or guess another format.

    Shape:  [C, N], with the codec's delay
    Raises:
        ImportError: PyAV is not installed.
        av.error.FFmpegError: FFmpeg refuses the file or a sound unit in it.
    """
    import av

    with av.open(io.BytesIO(aea), "r", format="aea" if name_format else None) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        if not name_format and container.format.name != "aea":
            raise ValueError(f"FFmpeg takes this for {container.format.name}")
        blocks = []
        for packet in container.demux(stream):
            for frame in packet.decode():
                samples = frame.to_ndarray()
                packed = samples.shape[0] != stream.channels
                blocks.append(samples.reshape(-1, stream.channels).T if packed else samples)
    return np.concatenate(blocks, axis=1)


def load_pytrac() -> ModuleType:
    """Import pytrac, the bindings to the reference codec.

    Raises:
        ImportError: it is not installed, or another package of that name is (the package index has a library for Trac
            tickets); the message names the repository.
    """
    try:
        module = importlib.import_module("pytrac")
    except ImportError as error:
        raise ImportError(f"pytrac is not installed; it is built from {PYTRAC}") from error
    if not hasattr(module, "FrameProcessor"):
        raise ImportError(f"{module.__file__} is no codec but another pytrac; the codec's bindings are {PYTRAC}")
    return module


def pytrac_encode(pcm: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode with pytrac, frame by frame. Shape: [C, 512 F] -> [C, F, 212]. Raises: ImportError."""
    processor = load_pytrac().FrameProcessor(len(pcm))
    frames = []
    for start in range(0, pcm.shape[1], FRAME_SAMPLES):
        frame = np.ascontiguousarray(pcm[:, start : start + FRAME_SAMPLES], np.float32)
        units = processor.process_frame(frame).compressed_data_per_channel
        frames.append([[(ord(byte) if isinstance(byte, str) else byte) & 255 for byte in unit] for unit in units])
    return np.array(frames, np.uint8).swapaxes(0, 1)


def pytrac_decode(units: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decode with pytrac, frame by frame. Shape: [C, F, 212] -> [C, 512 F]. Raises: ImportError."""
    decoder = load_pytrac().FrameDecoder(len(units))
    frames = [decoder.decode_frame_from_bitstream([u.tobytes() for u in frame]) for frame in units.swapaxes(0, 1)]
    return np.concatenate([np.array(frame.pcm_output, np.float32) for frame in frames], axis=1)
