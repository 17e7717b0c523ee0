"""Error of each stage of a codec against a teacher, field by field, in sums over any number of recordings.

In column `alone` each stage gets the fields that the teacher made, so it shows the error of that stage; in column
`chained` it gets those that the candidate's own stages made of the samples, so it shows the errors of all stages so
far.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import CODEC_DELAY
from atrac_bitstream.tables import BAND_OF_VALUE, FRAME_SAMPLES
from atrac_codec import NNFullCodec
from atrac_codec.bridge import device_of
from atrac_codec.chunks import padded_chunks
from atrac_codec.trace import STAGE_OF_FIELD, Fields, TracedRun, Tracer
from atrac_modules.bfu import BfuLayout, carries
from atrac_train import detection

INTEGERS: Final = frozenset(("bsm", "idsf", "n_bfu", "idwl", "sent_idsf", "quantized", "units"))
"""Fields that are compared by the share of equal values; the others by their signal to noise ratio."""
COMPARABLE: Final = {
    "spectrum": "same block modes",
    "scaled": "same scale factors",
    "idsf": "with bits",
    "idwl": "with bits",
    "sent_idsf": "with bits in both",
    "quantized": "same step",
    "dec_spectrum": "same block modes",
}
"""Field to the part of its values whose meaning earlier decisions have not changed, or that are sent at all."""
COLUMNS: Final = ("alone", "chained")
Numbers = dict[str, Any]


def alone(codec: NNFullCodec, traced: TracedRun) -> Fields:
    """Return the fields that each stage makes of the teacher's fields, each [C, F, *shape]."""
    encoder, decoder, fed = codec.encoder, codec.decoder, traced.fields
    bsm, lead = fed["bsm"], traced.lead
    chosen = encoder.allocator(fed["spectrum"], fed["idsf"], bsm, fed["loudness"])
    track = encoder.loudness(fed["spectrum"][None, :, lead:], bsm[None, :, lead:], traced.loudness).loudness
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


def comparable(own: Fields, truth: Fields, fed: Fields) -> Fields:
    """Return the values that count of each field in `COMPARABLE`, true where one does.

    Args:
        own, truth: fields of candidate and teacher.
        fed: fields from which the stages made `own`.
    """
    layout = BfuLayout()
    modes = (fed["bsm"] == truth["bsm"])[..., BAND_OF_VALUE]
    factors = layout.expand((own["idsf"] == truth["idsf"]).float(), truth["bsm"]) > 0
    words, sent = ([layout.expand(x[name], x["bsm"]) for x in (fed, truth)] for name in ("idwl", "sent_idsf"))
    has_bits, sent_bits, true_bits = (x["idwl"] > 0 for x in (fed, own, truth))
    return {
        "spectrum": modes,
        "scaled": modes & factors,
        "idsf": has_bits | true_bits,
        "idwl": sent_bits | true_bits,
        "sent_idsf": sent_bits & true_bits,
        "quantized": (words[1] > 0) & modes & (words[0] == words[1]) & (sent[0] == sent[1]),
        "dec_spectrum": modes,
    }


def tally(own: Tensor, truth: Tensor, counted: Tensor | None = None) -> Tensor:
    """Count values and equal ones, sum the energies of truth and error. Shape: [*] each, alike -> float64 [4]."""
    if counted is not None:
        own, truth = own[counted], truth[counted]
    own, truth = own.double(), truth.double()
    energies = truth.square().sum().item(), (own - truth).square().sum().item()
    return torch.tensor([truth.numel(), int((own == truth).sum()), *energies], dtype=torch.float64)


class Comparison:
    """Compares a codec with a teacher over recordings that are added one by one.

    Args:
        teacher: codec whose fields are taken as true.
        candidate: codec to compare, on the same device.
    """

    def __init__(self, teacher: NNFullCodec, candidate: NNFullCodec) -> None:
        self._codecs = {"teacher": teacher.eval(), "candidate": candidate.eval()}
        self._sums: dict[tuple[str, str, str], Tensor] = defaultdict(lambda: torch.zeros(4, dtype=torch.float64))
        """Sums of `tally` by column, field and part; for decoded sound against the original by codec and recording."""
        self._short: dict[str, dict[str, Tensor]] = {column: {} for column in COLUMNS}
        self.samples: dict[str, int] = {}
        """Length of each recording."""

    @torch.no_grad()
    def add(self, recording: str, blocks: Iterable[NDArray[np.float32]]) -> None:
        """Code a recording with both codecs and count; an empty one is ignored.

        Shape: blocks [C, n] each, C = 1 or 2, 44.1 kHz, of any length
        Raises: AtracError: the candidate's fields cannot be packed.
        """
        tracers = {name: Tracer(codec.encoder, codec.decoder) for name, codec in self._codecs.items()}
        device = device_of(self._codecs["teacher"])
        before, position = torch.zeros(1, CODEC_DELAY), 0
        for run, samples in padded_chunks(blocks):
            pcm = torch.from_numpy(run)
            traced = {name: tracer.push(pcm.to(device)) for name, tracer in tracers.items()}
            single = _on_cpu(alone(self._codecs["candidate"], traced["teacher"]))
            own = {name: _on_cpu(one.own) for name, one in traced.items()}
            self._count("alone", single, own["teacher"], own["teacher"])
            self._count("chained", own["candidate"], own["teacher"], own["candidate"])
            # The original, delayed like the decoded sound; the silence after its end does not count.
            delayed = torch.cat([before[:, -CODEC_DELAY:].expand(len(pcm), -1), pcm], 1)
            counted = slice(max(CODEC_DELAY - position, 0), samples + CODEC_DELAY - position)
            for name, fields in own.items():
                pair = fields["dec_pcm"].flatten(1)[:, counted], delayed[:, : pcm.shape[1]][:, counted]
                self._sums["original", name, recording] += tally(*pair)
            self.samples[recording], before, position = samples, pcm, position + pcm.shape[1]

    def _count(self, column: str, own: Fields, truth: Fields, fed: Fields) -> None:
        parts = comparable(own, truth, fed)
        for field in STAGE_OF_FIELD.keys() & own.keys():
            pair = own[field], truth[field]
            if field == "units":  # a sound unit is equal as a whole or not
                equal = (pair[0] == pair[1]).all(-1)
                pair = equal, torch.ones_like(equal)
            self._sums[column, field, "all"] += tally(*pair)
            if field in parts:
                self._sums[column, field, COMPARABLE[field]] += tally(*pair, parts[field])
        for name, count in detection.count(own["bsm"] > 0, truth["bsm"] > 0).items():
            self._short[column][name] = self._short[column].get(name, 0) + count

    def fields(self) -> dict[str, Numbers]:
        """Return the stage of each field and its measures, by column and part; F1 of short blocks with `bsm`."""
        result: dict[str, Numbers] = {field: {"stage": stage} for field, stage in STAGE_OF_FIELD.items()}
        for (column, field, part), sums in self._sums.items():
            if column in COLUMNS:
                measure = {"equal (%)": _share(sums)} if field in INTEGERS else {"SNR (dB)": _snr(sums)}
                result[field].setdefault(column, {})[part] = {"values": int(sums[0]), **measure}
        for column, counts in self._short.items():
            together = detection.rates(*(float(count.sum()) for count in counts.values()))
            result["bsm"][column]["short blocks"] = together | detection.band_rates(counts)
        return result

    def original(self) -> dict[str, Numbers]:
        """Return the SNR of the decoded sounds to the original, dB: of each recording, and the mean of finite ones."""
        rows = {
            recording: {codec: _snr(self._sums["original", codec, recording]) for codec in self._codecs}
            for recording in self.samples
        }
        finite = [row for row in rows.values() if all(map(math.isfinite, row.values()))]
        mean = {codec: sum(row[codec] for row in finite) / max(len(finite), 1) for codec in self._codecs}
        return {"mean": mean if finite else dict.fromkeys(self._codecs, math.nan), "recordings": rows}


def _on_cpu(fields: Fields) -> Fields:
    return {name: field.cpu() for name, field in fields.items()}


def _share(sums: Tensor) -> float:
    return 100 * float(sums[1] / sums[0]) if sums[0] else math.nan


def _snr(sums: Tensor) -> float:
    """Return dB; infinite if nothing differs."""
    values, _, energy, error = sums.tolist()
    if error == 0:
        return math.inf if values else math.nan
    return 10 * math.log10(energy / error) if energy else -math.inf
