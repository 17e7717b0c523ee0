"""Where in the chain a codec deviates from its teacher, field by field, in sums over any number of recordings.

    pcm ─ bands, bsm, spectrum, loudness, idsf, scaled, n_bfu, idwl, sent_idsf, quantized ─ units
        ─ dec_spectrum, dec_bands, dec_pcm

Fields are those of `atrac_data.FIELDS`; besides, `sent_idsf` is what the sound unit holds after the allocator. In
column `alone` a stage is fed with what the teacher made before it, so that it answers for itself; in column `chained`
with what the candidate's own stages made, from the samples on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import CODEC_DELAY, frames_for
from atrac_bitstream.tables import BAND_OF_VALUE, BFU_BANDS, FRAME_SAMPLES
from atrac_codec import NNFullCodec, to_units
from atrac_codec.bridge import device_of
from atrac_codec.stream import CHUNK_FRAMES, LEAD_FRAMES
from atrac_modules import FrameBatch
from atrac_modules.bfu import BfuLayout
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
WHOLE: Final = frozenset(("bsm", "idsf", "n_bfu", "idwl", "sent_idsf", "quantized", "units"))
"""Fields of whole numbers."""
MAIN: Final = {
    "bsm": "short in either",
    "idsf": "with bits",
    "idwl": "with bits",
    "sent_idsf": "with bits in both",
    "quantized": "same word length and scale factor",
}
"""Field to the subset of its values that says most; `all` for the others."""
COLUMNS: Final = ("alone", "chained")
BAND_NAMES: Final = ("low", "mid", "high")
_FIRSTS: Final = {512: (0, 128, 256), 52: (0, 20, 36), 3: (0, 1, 2), 1: (0,)}
"""Where the bands begin, by the last dimension of a field."""
_VALUES, _EQUAL, _DIFFERENCE, _ENERGY, _ERROR = range(5)
_BATCH: Final = ("bsm", "n_bfu", "idwl", "sent_idsf", "quantized")

Fields = dict[str, Tensor]
"""Field name to tensor [C, F, *shape]."""
Sums = NDArray[np.float64]
"""Values, equal ones, absolute differences, energy of the teacher's, energy of the differences. Shape: [5, bands]."""


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


def subsets(own: Fields, truth: Fields, fed: Fields) -> dict[str, Fields]:
    """Tell for each field which of its values can be compared, or matter; by name, true where a value counts.

    Args:
        own, truth: all fields.
        fed: what the stages were fed with to make `own`.
    """
    layout = BfuLayout()
    modes = (fed["bsm"] == truth["bsm"])[..., BAND_OF_VALUE]
    factors = layout.expand((fed["idsf"] == truth["idsf"]).float(), truth["bsm"]) > 0
    words, sent = ([layout.expand(x[name], x["bsm"]) for x in (fed, truth)] for name in ("idwl", "sent_idsf"))
    coded = (words[0] > 0) | (words[1] > 0)
    mine, its = own["bsm"] > 0, truth["bsm"] > 0
    bits, its_bits = own["idwl"] > 0, truth["idwl"] > 0
    return {
        "bsm": {"short in either": mine | its, "found": mine & its, "missed": its & ~mine, "invented": mine & ~its},
        "spectrum": {"same block modes": modes},
        "idsf": {"with bits": (fed["idwl"] > 0) | its_bits},
        "scaled": {"same scale factors": modes & factors},
        "idwl": {"with bits": bits | its_bits},
        "sent_idsf": {"with bits in both": bits & its_bits},
        "quantized": {
            "with bits": coded,
            "same word length and scale factor": coded & modes & (words[0] == words[1]) & (sent[0] == sent[1]),
        },
    }


def tally(own: Tensor, truth: Tensor, counted: Tensor | None = None) -> Sums:
    """Sum up how far a field differs, band by band. Shape: [C, F, n] each, n = 512, 52, 3 or 1."""
    own, truth = own.double(), truth.double()
    counted = torch.ones_like(truth, dtype=torch.bool) if counted is None else counted
    off = torch.where(counted, own - truth, 0.0)
    parts = counted, counted & (own == truth), off.abs(), torch.where(counted, truth, 0.0).square(), off.square()
    sums = torch.stack([part.double().flatten(0, -2).sum(0) for part in parts]).numpy()
    return np.asarray(np.add.reduceat(sums, _FIRSTS[sums.shape[1]], axis=1))


class Comparison:
    """The sums, to which recordings are added.

    Args:
        teacher: codec that is taken for the truth.
        candidate: codec that is held against it, on the same device.
    """

    def __init__(self, teacher: NNFullCodec, candidate: NNFullCodec) -> None:
        self.teacher, self.candidate = teacher.eval(), candidate.eval()
        self.sums: dict[str, dict[tuple[str, str, str], Sums]] = {}
        """By recording, then by column, field and subset."""
        self.samples: dict[str, int] = {}

    @torch.no_grad()
    def add(self, recording: str, blocks: Iterable[NDArray[np.float32]]) -> None:
        """Code a recording with both and count. Shape: blocks [C, n] each, 44.1 kHz, of any length."""
        truth_chain, own_chain = Chain(self.teacher), Chain(self.candidate)
        device, tail = device_of(self.teacher), torch.zeros(0, CODEC_DELAY)
        position = samples = 0
        for run, samples in runs(blocks):
            pcm = torch.from_numpy(run)
            truth, loudness = truth_chain.push(pcm.to(device))
            lead = truth["pcm"].shape[1] - pcm.shape[1] // FRAME_SAMPLES
            single = alone(self.candidate, truth, lead, loudness)
            own, _ = own_chain.push(pcm.to(device))
            truth, own = ({name: f[:, lead:].cpu() for name, f in fields.items()} for fields in (truth, own))
            self._count(recording, "alone", {name: f.cpu() for name, f in single.items()}, truth, truth)
            self._count(recording, "chained", own, truth, own)
            # The original, as late as the decoded sound; what silence was put after its end does not count.
            late = torch.cat([tail if len(tail) else tail.new_zeros(len(pcm), CODEC_DELAY), pcm], 1)
            real = slice(max(CODEC_DELAY - position, 0), max(samples + CODEC_DELAY - position, 0))
            for column, fields in (("teacher", truth), ("candidate", own)):
                decoded = fields["dec_pcm"].flatten(1)[:, real, None]
                original = late[:, : pcm.shape[1]][:, real, None]
                self._add(recording, (column, "dec_pcm", "original"), tally(decoded, original))
            tail, position = late[:, -CODEC_DELAY:], position + pcm.shape[1]
        self.samples[recording] = samples

    def _count(self, recording: str, column: str, own: Fields, truth: Fields, fed: Fields) -> None:
        chosen: Mapping[str, Fields] = subsets(own, truth, fed)
        for field in STAGES:
            if field == "units":
                continue
            one, other = ({"n": x} for x in (own[field], truth[field]))
            a, b = (_in_bands(field, x["n"]) for x in (one, other))
            self._add(recording, (column, field, "all"), tally(a, b))
            for name, counted in chosen.get(field, {}).items():
                self._add(recording, (column, field, name), tally(a, b, counted))
