"""Streams: coding recordings of any length in chunks of one fixed size.

Every chunk but the first begins with lead frames that settle the filters, and the last is filled up, so that the
result depends on the samples alone, not on how they arrive.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import FRAMES_MULTIPLE, frames_for
from atrac_bitstream.tables import FRAME_SAMPLES, SOUND_UNIT_BYTES
from atrac_codec.bridge import device_of, from_units, to_units
from atrac_codec.decoder import NNDecoder
from atrac_codec.encoder import NNEncoder
from atrac_modules import FrameBatch

CHUNK_FRAMES: Final = 512
"""Frames of a chunk: about 6 s. Fewer spend more time per frame on starting operations, more leave the cache."""
LEAD_FRAMES: Final = 2
"""Frames before a chunk that settle the filters, which remember less than two."""


@final
class StreamEncoder:
    """Encodes samples as they come.

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
        self._multiple = frames_multiple
        self._lead = np.zeros((channels, 0), np.float32)
        self._waiting: list[NDArray[np.float32]] = []
        self._n_waiting = 0
        self._loudness: Tensor | None = None
        self._frames = 0
        self.samples = 0
        """PCM samples per channel taken so far."""

    def push(self, pcm: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Take samples, return the sound units that are complete with them.

        Shape: pcm [C, n] -> [F, C, 212]
        Units: full scale +-1.0
        Raises:
            ValueError: pcm has another number of channels, or of dimensions.
        """
        if pcm.ndim != 2 or len(pcm) != len(self._lead):
            raise ValueError(f"pcm is {list(pcm.shape)}, expected [{len(self._lead)}, n]")
        pcm = np.array(pcm, np.float32)  # a copy: the caller may use the array again
        self.samples += pcm.shape[1]
        self._waiting.append(pcm)
        self._n_waiting += pcm.shape[1]
        size = CHUNK_FRAMES * FRAME_SAMPLES
        units = []
        if self._n_waiting >= size:
            joined = np.concatenate(self._waiting, axis=1)
            self._n_waiting = joined.shape[1] % size
            whole = joined.shape[1] - self._n_waiting
            units = [self._encode(joined[:, i : i + size]) for i in range(0, whole, size)]
            self._waiting = [joined[:, whole:]]
        return self._join(units)

    def finish(self) -> NDArray[np.uint8]:
        """Return the remaining sound units: all samples are in them, with the codec's delay.

        Shape: [F, C, 212]
        """
        left = frames_for(self.samples, self._multiple) - self._frames
        rest = np.concatenate([self._lead[:, :0], *self._waiting], axis=1)
        self._waiting = []
        size = CHUNK_FRAMES * FRAME_SAMPLES
        units = []
        for start in range(0, left * FRAME_SAMPLES, size):
            chunk = rest[:, start : start + size]
            units.append(self._encode(np.pad(chunk, ((0, 0), (0, size - chunk.shape[1])))))
        return self._join(units)[:left]

    @torch.no_grad()
    def _encode(self, chunk: NDArray[np.float32]) -> NDArray[np.uint8]:
        pcm = torch.from_numpy(np.concatenate([self._lead, chunk], axis=1)[None]).to(device_of(self._encoder))
        lead_frames = self._lead.shape[1] // FRAME_SAMPLES
        encoded = self._encoder.stages(pcm, lead_frames, self._loudness)
        self._loudness = encoded.loudness_end
        self._lead = chunk[:, -LEAD_FRAMES * FRAME_SAMPLES :]
        self._frames += CHUNK_FRAMES
        return to_units(encoded.batch)[0].swapaxes(0, 1)

    def _join(self, units: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return np.concatenate([np.zeros((0, len(self._lead), SOUND_UNIT_BYTES), np.uint8), *units])


@final
class StreamDecoder:
    """Decodes sound units as they come; the result has the codec's delay.

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
        self._waiting: list[NDArray[np.uint8]] = []
        self._n_waiting = 0
        self._channels = channels
        self._lead: FrameBatch | None = None
        self._frames = 0

    def push(self, units: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Take sound units, return the samples of those chunks that are complete with them.

        Shape: units [F, C, 212] -> [C, n]
        Units: full scale +-1.0, not clipped
        Raises:
            SoundUnitError: a unit is damaged; it is named by frame and channel.
            ValueError: units has another number of channels, or another shape or dtype.
        """
        if units.dtype != np.uint8 or units.shape[1:] != (self._channels, SOUND_UNIT_BYTES):
            expected = f"uint8 [F, {self._channels}, {SOUND_UNIT_BYTES}]"
            raise ValueError(f"units is {units.dtype} {list(units.shape)}, expected {expected}")
        units = units.copy()  # the caller may use the array again
        self._waiting.append(units)
        self._n_waiting += len(units)
        parts = []
        if self._n_waiting >= CHUNK_FRAMES:
            joined = np.concatenate(self._waiting)
            self._n_waiting = len(joined) % CHUNK_FRAMES
            whole = len(joined) - self._n_waiting
            parts = [self._decode(joined[i : i + CHUNK_FRAMES]) for i in range(0, whole, CHUNK_FRAMES)]
            self._waiting = [joined[whole:]]
        return self._join(parts)

    def finish(self) -> NDArray[np.float32]:
        """Return the samples of the remaining sound units. Shape: [C, n]."""
        rest, self._waiting, self._n_waiting = self._waiting, [], 0
        return self._join([self._decode(units)] if rest and len(units := np.concatenate(rest)) else [])

    @torch.no_grad()
    def _decode(self, units: NDArray[np.uint8]) -> NDArray[np.float32]:
        missing = CHUNK_FRAMES - len(units)
        # To [C, F, …], filled up with frames of silence.
        device = device_of(self._decoder)
        batch = from_units(units, self._frames).map(lambda f: f.transpose(0, 1).to(device))
        batch = batch.map(lambda f: torch.cat([f, f.new_zeros(f.shape[0], missing, *f.shape[2:])], 1))
        joined = batch
        if lead := self._lead:
            joined = FrameBatch(*(torch.cat(pair, 1) for pair in zip(lead, batch, strict=True)))
        self._lead = batch.map(lambda f: f[:, -LEAD_FRAMES:])
        self._frames += len(units)
        end = -missing * FRAME_SAMPLES or None
        return self._decoder(joined)[:, -CHUNK_FRAMES * FRAME_SAMPLES : end].cpu().numpy()

    def _join(self, parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate([np.zeros((self._channels, 0), np.float32), *parts], axis=1)
