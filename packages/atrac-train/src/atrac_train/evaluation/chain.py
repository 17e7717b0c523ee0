"""A codec field by field: along a recording, run by run, and each stage alone on fields that it is fed with.

    pcm ─ bands, bsm, spectrum, loudness, idsf, scaled, n_bfu, idwl, sent_idsf, quantized ─ units
        ─ dec_spectrum, dec_bands, dec_pcm

Fields are those of `atrac_data.FIELDS`; besides, `sent_idsf` is what the sound unit holds after the allocator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import frames_for
from atrac_bitstream.tables import FRAME_SAMPLES
from atrac_codec import NNFullCodec, to_units
from atrac_codec.stream import CHUNK_FRAMES, LEAD_FRAMES
from atrac_modules import FrameBatch
from atrac_modules.water_filling import carries

STAGES: Final = {
    "bands": "qmf",
    "bsm": "transient",
    "spectrum": "mdct",
    "loudness": "loudness",
    "idsf": "scaler",
    "scaled": "scaler",
    "n_bfu": "allocator",
    "idwl": "allocator",
    "sent_idsf": "allocator",
    "quantized": "quantizer",
    "units": "encoder",
    "dec_spectrum": "dequantizer",
    "dec_bands": "imdct",
    "dec_pcm": "iqmf",
}
"""Field to the stage that makes it, in the order of the chain; `units` are of all stages before, so never alone."""
_BATCH: Final = ("bsm", "n_bfu", "idwl", "sent_idsf", "quantized")
"""Fields of a FrameBatch."""

Fields = dict[str, Tensor]
"""Field name to tensor [C, F, *shape]."""


def runs(blocks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Cut samples into runs of whole frames, with silence after them until a codec has given the last one back.

    Shape: blocks [C, n] each -> [C, 512 F], and how many samples have come so far
    """
    size, samples, done = CHUNK_FRAMES * FRAME_SAMPLES, 0, 0
    waiting: NDArray[np.float32] | None = None
    for block in blocks:
        waiting = block if waiting is None else np.concatenate([waiting, block], 1)
        samples += block.shape[1]
        while waiting.shape[1] >= size:
            yield np.ascontiguousarray(waiting[:, :size]), samples
            waiting, done = waiting[:, size:], done + size
    if waiting is not None and samples:
        missing = frames_for(samples, multiple=1) * FRAME_SAMPLES - done - waiting.shape[1]
        yield np.pad(waiting, ((0, 0), (0, missing))), samples


class Chain:
    """A codec on its way along a recording, which shows every field.

    Args:
        codec: what to follow.
    """

    def __init__(self, codec: NNFullCodec) -> None:
        self._codec = codec
        self._before: Fields = {}
        self._loudness: Tensor | None = None

    def push(self, pcm: Tensor) -> tuple[Fields, Tensor | None]:
        """Code the next run. Shape: pcm [C, 512 F].

        Returns:
            All fields, of the last frames of the run before too (none, then two), and the loudness before this run.

        Raises:
            AtracError: what the encoder makes cannot be packed.
        """
        encoder, start = self._codec.encoder, self._loudness
        known = self._join({"pcm": pcm.unflatten(1, (-1, FRAME_SAMPLES))})
        lead = known["pcm"].shape[1] - pcm.shape[1] // FRAME_SAMPLES
        encoded = encoder.stages(known["pcm"].flatten(1)[None], lead, start)
        self._loudness = encoded.loudness_end
        known |= self._join(
            {
                "bands": encoded.bands[0],
                "spectrum": encoded.spectrum[0],
                "loudness": encoded.loudness.expand(len(pcm), -1),
                "idsf": encoded.idsf[0],
                # As the scaler made it: the allocator may have moved the scale factors since.
                "scaled": encoder.scaler.scale(encoded.spectrum, encoded.idsf, encoded.batch.bsm)[0],
                **dict(zip(_BATCH, encoded.batch.map(lambda field: field[0]), strict=True)),
            }
        )
        known |= self._join({"units": torch.from_numpy(to_units(encoded.batch)[0])})
        decoded = self._codec.decoder.stages(FrameBatch(*(known[name] for name in _BATCH)))
        made = decoded.spectrum, decoded.bands, decoded.pcm.unflatten(-1, (-1, FRAME_SAMPLES))
        names = "dec_spectrum", "dec_bands", "dec_pcm"
        known |= self._join({name: field[:, lead:] for name, field in zip(names, made, strict=True)})
        self._before = {name: field[:, -LEAD_FRAMES:] for name, field in known.items()}
        return known, start

    def _join(self, fields: Fields) -> Fields:
        return {
            name: torch.cat([self._before[name], field], 1) if self._before else field for name, field in fields.items()
        }


def alone(codec: NNFullCodec, fed: Fields, lead: int, loudness: Tensor | None) -> Fields:
    """Ask each stage what it makes of the fields it is fed with.

    Args:
        codec: whose stages.
        fed: all fields, as the teacher has them.
        lead: frames at their start that only serve the filters.
        loudness: before the first frame after those, [1].
    """
    encoder, decoder, bsm = codec.encoder, codec.decoder, fed["bsm"]
    scaled = encoder.scaler(fed["spectrum"], bsm)
    chosen = encoder.allocator(fed["spectrum"], fed["idsf"], bsm, fed["loudness"])
    track = encoder.loudness(fed["spectrum"][None, :, lead:], bsm[None, :, lead:], loudness).loudness
    made = {
        "bands": encoder.qmf(fed["pcm"].flatten(1)),
        "bsm": encoder.transient(fed["bands"]),
        "spectrum": encoder.mdct(fed["bands"], bsm),
        "idsf": scaled.idsf,
        "scaled": scaled.scaled,
        "n_bfu": chosen.n_bfu,
        "idwl": chosen.idwl,
        "sent_idsf": chosen.idsf * carries(chosen.n_bfu),
        "quantized": encoder.quantizer(fed["scaled"], fed["idwl"], bsm),
        "dec_spectrum": decoder.dequantizer(fed["quantized"], fed["sent_idsf"], fed["idwl"], bsm),
        "dec_bands": decoder.imdct(fed["dec_spectrum"], bsm),
        "dec_pcm": decoder.iqmf(fed["dec_bands"]).unflatten(-1, (-1, FRAME_SAMPLES)),
    }
    return {name: field[:, lead:] for name, field in made.items()} | {"loudness": track.expand(len(bsm), -1)}
