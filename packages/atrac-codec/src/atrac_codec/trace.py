"""Trace: every intermediate result of an encoder and a decoder, by the name of its field.

    pcm ─ bands, bsm, spectrum, loudness, idsf, n_bfu, idwl, sent_idsf, scaled, quantized ─ units
        ─ dec_spectrum, dec_bands, dec_pcm

The only place that names these fields: ground truth, comparisons and training objectives use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from atrac_bitstream.tables import FRAME_SAMPLES
from atrac_codec.bridge import to_units
from atrac_codec.chunks import LEAD_FRAMES
from atrac_codec.decoder import Decoded, NNDecoder
from atrac_codec.encoder import Encoded, NNEncoder
from atrac_modules import FrameBatch

STAGE_OF_FIELD: Final = {
    "bands": "qmf",
    "bsm": "transient",
    "spectrum": "mdct",
    "loudness": "loudness",
    "idsf": "scaler",
    "n_bfu": "allocator",
    "idwl": "allocator",
    "sent_idsf": "allocator",
    "scaled": "quantizer",
    "quantized": "quantizer",
    "units": "encoder",
    "dec_spectrum": "dequantizer",
    "dec_bands": "imdct",
    "dec_pcm": "iqmf",
}
"""Field to the stage that makes it, in the order of the chain. All stages of the encoder together make the units.

`idsf` comes from the scaler. `sent_idsf` is stored in the sound unit: the allocator may have moved scale factors, and
BFUs that are not carried have 0. `scaled` is the spectrum divided by the scale factors that the quantizer gets.
"""
BATCH_FIELDS: Final = ("bsm", "n_bfu", "idwl", "sent_idsf", "quantized")
"""Fields of a FrameBatch, in its order."""
Fields = dict[str, Tensor]
"""Field name to tensor [*, F, *shape]."""


def trace(encoder: NNEncoder, decoder: NNDecoder, pcm: Tensor) -> Fields:
    """Encode and decode whole recordings and return every field but `units`, with gradients.

    Shape: pcm [B, C, T], T = 512 F -> [B, C, F, *shape] for each field
    """
    encoded = encoder.stages(pcm)
    return _of_encoder(encoder, encoded) | _of_decoder(decoder.stages(encoded.batch))


@dataclass(frozen=True)
class TracedRun:
    """The fields of a run of frames, after those of the last frames of the run before.

    Args:
        fields: each [C, lead + F, *shape].
        lead: number of frames of the run before: 0 in the first run, else `LEAD_FRAMES`.
        loudness: loudness before the run, [1]; None at the start of a recording.
    """

    fields: Fields
    lead: int
    loudness: Tensor | None

    @property
    def own(self) -> Fields:
        """The fields of the run alone, each [C, F, *shape]."""
        return {name: field[:, self.lead :] for name, field in self.fields.items()}


@final
class Tracer:
    """Traces an encoder and a decoder along a recording, run by run.

    Args:
        encoder, decoder: encoder and decoder to trace; they keep no state.

    Example:
        >>> from atrac_codec.presets import build_decoder, build_encoder
        >>> tracer = Tracer(build_encoder("bitexact"), build_decoder("bitexact"))
        >>> tracer.push(torch.zeros(2, 1024)).own["spectrum"].shape
        torch.Size([2, 2, 512])
    """

    def __init__(self, encoder: NNEncoder, decoder: NNDecoder) -> None:
        self._encoder, self._decoder = encoder, decoder
        self._before: Fields = {}
        self._loudness: Tensor | None = None

    @torch.no_grad()
    def push(self, pcm: Tensor) -> TracedRun:
        """Encode and decode the next run.

        Shape:  pcm [C, 512 F], C = 1 or 2
        Raises: AtracError: the encoder's result cannot be packed into sound units.
        """
        loudness = self._loudness
        fields = self._after_lead({"pcm": pcm.unflatten(1, (-1, FRAME_SAMPLES))})
        lead = fields["pcm"].shape[1] - pcm.shape[1] // FRAME_SAMPLES
        encoded = self._encoder.stages(fields["pcm"].flatten(1)[None], lead, loudness)
        made = {name: field[0] for name, field in _of_encoder(self._encoder, encoded).items()}
        made["units"] = torch.from_numpy(to_units(encoded.batch)[0])
        fields |= self._after_lead(made)
        decoded = self._decoder.stages(FrameBatch(*(fields[name] for name in BATCH_FIELDS)))
        fields |= self._after_lead({name: field[:, lead:] for name, field in _of_decoder(decoded).items()})
        self._before = {name: field[:, -LEAD_FRAMES:] for name, field in fields.items()}
        self._loudness = encoded.loudness_end
        return TracedRun(fields, lead, loudness)

    def _after_lead(self, fields: Fields) -> Fields:
        if not self._before:
            return fields
        return {name: torch.cat([self._before[name], field], 1) for name, field in fields.items()}


def _of_encoder(encoder: NNEncoder, encoded: Encoded) -> Fields:
    batch = encoded.batch
    return {
        "bands": encoded.bands,
        "bsm": batch.bsm,
        "spectrum": encoded.spectrum,
        "loudness": encoded.loudness[:, None].expand(batch.bsm.shape[:-1]),
        "idsf": encoded.idsf,
        "n_bfu": batch.n_bfu,
        "idwl": batch.idwl,
        "sent_idsf": batch.idsf,
        "scaled": encoder.quantizer.scaled(encoded.spectrum, encoded.allocation.idsf, batch.bsm),
        "quantized": batch.quantized,
    }


def _of_decoder(decoded: Decoded) -> Fields:
    pcm = decoded.pcm.unflatten(-1, (-1, FRAME_SAMPLES))
    return {"dec_spectrum": decoded.spectrum, "dec_bands": decoded.bands, "dec_pcm": pcm}
