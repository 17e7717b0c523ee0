"""NNFullCodec: waveforms through ATRAC1 and back, as a layer with gradients and as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, overload

from torch import Tensor, nn
from torch.nn.functional import pad

from atrac_bitstream import CODEC_DELAY, frames_for
from atrac_bitstream.tables import FRAME_SAMPLES
from atrac_codec import bridge, presets
from atrac_codec.codec_folder import save_codec
from atrac_codec.decoder import NNDecoder
from atrac_codec.encoder import NNEncoder
from atrac_modules import FrameBatch, ShapeError


class NNFullCodec(nn.Module):
    """Encodes and decodes waveforms, without the codec's delay of 266 samples.

    Args:
        encoder: from waveform to FrameBatch.
        decoder: from FrameBatch to waveform.

    Shape:  wave [B, C, N], C = 1 or 2, N >= 1 -> [B, C, N]
    Units:  full scale +-1.0, 44.1 kHz
    Raises: ShapeError: wave has another shape.

    Example:
        >>> import torch
        >>> codec = NNFullCodec.from_pretrained("reference")
        >>> wave = torch.rand(1, 2, 5000, requires_grad=True)
        >>> codec(wave).shape
        torch.Size([1, 2, 5000])
    """

    def __init__(self, encoder: NNEncoder, decoder: NNDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    @classmethod
    def from_pretrained(cls, preset: str | Path = presets.DEFAULT, decoder: str | Path | None = None) -> Self:
        """Build the codec of a preset, or read one from a folder.

        Args:
            preset: name of an encoder, see `presets.ENCODERS`, or a folder that `save_pretrained` wrote.
            decoder: name of a decoder, see `presets.DECODERS`, or such a folder; None takes that of the folder, or
                `standard` with the name of an encoder.

        Raises:
            ValueError: no preset, decoder or such folder has that name.
            CheckpointError, OSError: weights are damaged or missing.
        """
        if decoder is None:
            decoder = "standard" if preset in presets.ENCODERS else preset
        return cls(presets.build_encoder(preset), presets.build_decoder(decoder))

    def save_pretrained(self, folder: str | Path, about: Mapping[str, Any] | None = None) -> Path:
        """Write the codec as a folder that can replace the name of a preset or decoder; see `save_codec`.

        Args:
            folder: created if necessary.
            about: facts about its training, for the JSON.

        Returns:
            The path of the folder's codec.json, written last.

        Raises:
            ValueError, TypeError: a stage cannot be saved; it is named.
            OSError: a file cannot be written.
        """
        return save_codec(self.encoder, self.decoder, Path(folder), about or {})

    @overload
    def forward(self, wave: Tensor, return_batch: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, wave: Tensor, return_batch: Literal[True]) -> tuple[Tensor, FrameBatch]: ...

    def forward(self, wave: Tensor, return_batch: bool = False) -> Tensor | tuple[Tensor, FrameBatch]:
        """Encode and decode.

        Args:
            wave: the waveform.
            return_batch: also return the FrameBatch in between, from whose bytes other decoders get the same samples.
        """
        batch = self.encode(wave)
        decoded = self.decode(batch, wave.shape[-1])
        return (decoded, batch) if return_batch else decoded

    def encode(self, wave: Tensor) -> FrameBatch:
        """Encode a waveform, followed by the silence that brings its last samples through the codec's delay.

        Shape: wave [B, C, N] -> FrameBatch of [B, C, F, …], F = ceil((N + 266) / 512)
        """
        if wave.dim() != 3 or wave.shape[-1] == 0:
            raise ShapeError("wave", "[B, C, N], N >= 1", wave.shape)
        length = FRAME_SAMPLES * frames_for(wave.shape[-1], multiple=1)
        batch: FrameBatch = self.encoder(pad(wave, (0, length - wave.shape[-1])))
        return batch

    def decode(self, batch: FrameBatch, samples: int | None = None) -> Tensor:
        """Decode to a waveform.

        Args:
            batch: FrameBatch of [*, F, …].
            samples: length of the waveform; None returns all samples of the frames, 512 F - 266.

        Shape: [*, N]
        """
        pcm: Tensor = self.decoder(batch)
        return pcm[..., CODEC_DELAY:][..., :samples]

    def to_bytes(self, batch: FrameBatch, samples: int | None = None, title: str = "") -> list[bytes]:
        """Write each recording of a batch [B, C, F, …] as an AEA file; see `bridge.to_aea`."""
        return [bridge.to_aea(FrameBatch(*one), samples, title) for one in zip(*batch, strict=True)]

    def from_bytes(self, data: bytes) -> Tensor:
        """Decode an AEA file, to its samples if it has a length tag.

        Shape: [1, C, N]
        Raises:
            AtracError: the data is no AEA file, or a sound unit is damaged.
        """
        batch, samples = bridge.from_aea(data)
        device = bridge.device_of(self.decoder)
        return self.decode(batch.map(lambda f: f.unsqueeze(0).to(device)), samples)
