"""Recordings cut into runs of frames, and each stage alone on the fields of a trace that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import frames_for
from atrac_bitstream.tables import FRAME_SAMPLES
from atrac_codec import NNFullCodec
from atrac_codec.stream import CHUNK_FRAMES
from atrac_codec.trace import Fields
from atrac_modules.water_filling import carries


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


def alone(codec: NNFullCodec, fed: Fields, lead: int, loudness: Tensor | None) -> Fields:
    """Ask each stage what it makes of the fields it is fed with.

    Args:
        codec: whose stages.
        fed: all fields, as the teacher has them.
        lead: frames at their start that only serve the filters.
        loudness: before the first frame after those, [1].
    """
    encoder, decoder, bsm = codec.encoder, codec.decoder, fed["bsm"]
    chosen = encoder.allocator(fed["spectrum"], fed["idsf"], bsm, fed["loudness"])
    track = encoder.loudness(fed["spectrum"][None, :, lead:], bsm[None, :, lead:], loudness).loudness
    made = {
        "bands": encoder.qmf(fed["pcm"].flatten(1)),
        "bsm": encoder.transient(fed["bands"]),
        "spectrum": encoder.mdct(fed["bands"], bsm),
        "idsf": encoder.scaler(fed["spectrum"], bsm),
        "scaled": encoder.quantizer.scaled(fed["spectrum"], fed["idsf"], bsm),
        "n_bfu": chosen.n_bfu,
        "idwl": chosen.idwl,
        "sent_idsf": chosen.idsf * carries(chosen.n_bfu),
        "quantized": encoder.quantizer(fed["spectrum"], fed["sent_idsf"], fed["idwl"], bsm),
        "dec_spectrum": decoder.dequantizer(fed["quantized"], fed["sent_idsf"], fed["idwl"], bsm),
        "dec_bands": decoder.imdct(fed["dec_spectrum"], bsm),
        "dec_pcm": decoder.iqmf(fed["dec_bands"]).unflatten(-1, (-1, FRAME_SAMPLES)),
    }
    return {name: field[:, lead:] for name, field in made.items()} | {"loudness": track.expand(len(bsm), -1)}
