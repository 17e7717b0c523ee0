"""Streams: encoding and decoding recordings as they arrive, in the chunks of `chunks.py`."""

from __future__ import annotations

from functools import partial
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import FRAMES_MULTIPLE
from atrac_bitstream.tables import FRAME_SAMPLES, SOUND_UNIT_BYTES
from atrac_codec.bridge import device_of, from_units, to_units
from atrac_codec.chunks import CHUNK_FRAMES, LEAD_FRAMES, Chunks, PcmChunks
from atrac_codec.decoder import NNDecoder
from atrac_codec.encoder import NNEncoder
from atrac_modules import FrameBatch


@final
class StreamEncoder:
    """Encodes samples as they arrive.

    Args:
        encoder: encoder to use; it keeps no state.
        channels: 1 or 2.
        frames_multiple: fill up with silence to a multiple of this many frames.

    Example:
        >>> from atrac_codec.presets import build_encoder
        >>> stream = StreamEncoder(build_encoder(), channels=2)
        >>> units = [stream.push(np.zeros((2, 1000), np.float32)), stream.finish()]
        >>> np.concatenate(units).shape, stream.samples
        ((8, 2, 212), 1000)
    """

    def __init__(self, encoder: NNEncoder, channels: int, frames_multiple: int = FRAMES_MULTIPLE) -> None:
        self._encoder = encoder
        self._chunks = PcmChunks(channels, frames_multiple)
        self._lead = np.zeros((channels, 0), np.float32)
        self._loudness: Tensor | None = None

    @property
    def samples(self) -> int:
        """PCM samples per channel taken so far."""
        return self._chunks.samples

    def push(self, pcm: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Take samples, return the sound units that are complete with them.

        Shape: pcm [C, n] -> [F, C, 212]
        Units: full scale +-1.0
        Raises:
            ValueError: pcm has another number of channels, or of dimensions.
        """
        if pcm.ndim != 2 or len(pcm) != len(self._lead):
            raise ValueError(f"pcm is {list(pcm.shape)}, expected [{len(self._lead)}, n]")
        return self._encode(self._chunks.push(np.asarray(pcm, np.float32)))

    def finish(self) -> NDArray[np.uint8]:
        """Return the remaining sound units: with them all samples are encoded, with the codec's delay.

        Shape: [F, C, 212]
        """
        return self._encode(self._chunks.finish())

    @torch.no_grad()
    def _encode(self, chunks: list[NDArray[np.float32]]) -> NDArray[np.uint8]:
        units = [np.zeros((0, len(self._lead), SOUND_UNIT_BYTES), np.uint8)]
        for chunk in chunks:
            missing = CHUNK_FRAMES * FRAME_SAMPLES - chunk.shape[1]  # at the end; every product has the same shape
            pcm = torch.from_numpy(np.concatenate([self._lead, np.pad(chunk, ((0, 0), (0, missing)))], 1))
            lead = self._lead.shape[1] // FRAME_SAMPLES
            encoded = self._encoder.stages(pcm[None].to(device_of(self._encoder)), lead, self._loudness)
            self._loudness = encoded.loudness_end
            self._lead = chunk[:, -LEAD_FRAMES * FRAME_SAMPLES :]
            units.append(to_units(encoded.batch)[0].swapaxes(0, 1)[: chunk.shape[1] // FRAME_SAMPLES])
        return np.concatenate(units)


@final
class StreamDecoder:
    """Decodes sound units as they arrive; the result has the codec's delay.

    Args:
        decoder: decoder to use; it keeps no state.
        channels: 1 or 2.

    Example:
        >>> from atrac_codec.presets import build_decoder
        >>> stream = StreamDecoder(build_decoder(), channels=1)
        >>> units = np.tile(np.frombuffer(bytes([0xac]) + bytes(211), np.uint8), (3, 1, 1))
        >>> stream.push(units).shape, stream.finish().shape
        ((1, 0), (1, 1536))
    """

    def __init__(self, decoder: NNDecoder, channels: int) -> None:
        self._decoder = decoder
        self._channels = channels
        self._chunks = Chunks(CHUNK_FRAMES, 0, np.zeros((0, channels, SOUND_UNIT_BYTES), np.uint8))
        self._lead: FrameBatch | None = None
        self._frames = 0

    def push(self, units: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Take sound units, return the samples of the chunks that are complete with them.

        Shape: units [F, C, 212] -> [C, n]
        Units: full scale +-1.0, not clipped
        Raises:
            SoundUnitError: a unit is damaged; it is named by frame and channel.
            ValueError: units has another number of channels, or another shape or dtype.
        """
        if units.dtype != np.uint8 or units.shape[1:] != (self._channels, SOUND_UNIT_BYTES):
            expected = f"uint8 [F, {self._channels}, {SOUND_UNIT_BYTES}]"
            raise ValueError(f"units is {units.dtype} {list(units.shape)}, expected {expected}")
        return self._decode(self._chunks.push(units))

    def finish(self) -> NDArray[np.float32]:
        """Return the samples of the remaining sound units. Shape: [C, n]."""
        rest = self._chunks.rest()
        return self._decode([rest] if len(rest) else [])

    @torch.no_grad()
    def _decode(self, chunks: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        pcm, device = [np.zeros((self._channels, 0), np.float32)], device_of(self._decoder)
        for chunk in chunks:
            missing = CHUNK_FRAMES - len(chunk)  # at the end; every product has the same shape
            batch = from_units(chunk, self._frames).map(lambda f: f.transpose(0, 1).to(device))
            batch = batch.map(partial(_pad_frames, number=missing))
            joined = batch
            if lead := self._lead:
                joined = FrameBatch(*(torch.cat(pair, 1) for pair in zip(lead, batch, strict=True)))
            self._lead = batch.map(lambda f: f[:, -LEAD_FRAMES:])
            self._frames += len(chunk)
            samples = self._decoder(joined)[:, -CHUNK_FRAMES * FRAME_SAMPLES : -missing * FRAME_SAMPLES or None]
            pcm.append(samples.cpu().numpy())
        return np.concatenate(pcm, axis=1)


def _pad_frames(field: Tensor, number: int) -> Tensor:
    """Append frames of zeros. Shape: [C, F, …] -> [C, F + number, …]."""
    return torch.cat([field, field.new_zeros(field.shape[0], number, *field.shape[2:])], 1)
