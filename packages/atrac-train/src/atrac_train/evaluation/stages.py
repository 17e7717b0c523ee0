"""Where in the chain a codec deviates from its teacher, field by field, in sums over any number of recordings.

In column `alone` a stage is fed with what the teacher made before it, so that it answers for itself; in column
`chained` with what the candidate's own stages made, from the samples on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_bitstream import CODEC_DELAY
from atrac_bitstream.tables import BAND_OF_VALUE
from atrac_codec import NNFullCodec
from atrac_codec.bridge import device_of
from atrac_codec.trace import STAGE_OF_FIELD, Fields, Tracer
from atrac_modules.bfu import BfuLayout
from atrac_train.evaluation.chain import alone, runs

WHOLE: Final = frozenset(("bsm", "idsf", "n_bfu", "idwl", "sent_idsf", "quantized", "units"))
"""Fields of whole numbers."""
MAIN: Final = {
    "bsm": "short in either",
    "idsf": "with bits",
    "idwl": "with bits",
    "sent_idsf": "with bits in both",
    "quantized": "same step",
}
"""Field to the subset of its values that says most; `all` for the others."""
COMPARABLE: Final = {
    "spectrum": "same block modes",
    "scaled": "same scale factors",
    "dec_spectrum": "same block modes",
}
"""Field of values to the subset in which earlier decisions have not changed what they mean."""
COLUMNS: Final = ("alone", "chained")
BAND_NAMES: Final = ("low", "mid", "high")
_FIRSTS: Final = {512: (0, 128, 256), 52: (0, 20, 36), 3: (0, 1, 2), 1: (0,)}
"""Where the bands begin, by the last dimension of a field."""
_VALUES, _EQUAL, _DIFFERENCE, _ENERGY, _ERROR = range(5)
Sums = NDArray[np.float64]
"""Values, equal ones, absolute differences, energy of the teacher's, energy of the differences. Shape: [5, bands]."""


def subsets(own: Fields, truth: Fields, fed: Fields) -> dict[str, Fields]:
    """Tell for each field which of its values can be compared, or matter; by name, true where a value counts.

    Args:
        own, truth: all fields.
        fed: what the stages were fed with to make `own`.
    """
    layout = BfuLayout()
    modes = (fed["bsm"] == truth["bsm"])[..., BAND_OF_VALUE]
    factors = layout.expand((own["idsf"] == truth["idsf"]).float(), truth["bsm"]) > 0
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
        "dec_spectrum": {"same block modes": modes},
        "quantized": {
            "with bits": coded,
            # Elsewhere another word length or scale factor has changed what they mean.
            "same step": coded & modes & (words[0] == words[1]) & (sent[0] == sent[1]),
        },
    }


def tally(own: Tensor, truth: Tensor, counted: Tensor | None = None) -> Sums:
    """Sum up how far a field differs, band by band. Shape: [*, n] each, n = 512, 52, 3 or 1 -> [5, 3] or [5, 1]."""
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
        self._teacher, self._candidate = teacher.eval(), candidate.eval()
        self.sums: dict[tuple[str, str, str], dict[str, Sums]] = defaultdict(dict)
        """By column, field and subset, then by recording."""
        self.samples: dict[str, int] = {}
        """Length of each recording."""

    @torch.no_grad()
    def add(self, recording: str, blocks: Iterable[NDArray[np.float32]]) -> None:
        """Code a recording with both and count; an empty one is passed over.

        Shape: blocks [C, n] each, C = 1 or 2, 44.1 kHz, of any length
        Raises: AtracError: what the candidate makes cannot be packed.
        """
        teacher, candidate = (Tracer(codec.encoder, codec.decoder) for codec in (self._teacher, self._candidate))
        device = device_of(self._teacher)
        late, position = torch.zeros(1, CODEC_DELAY), 0
        for run, samples in runs(blocks):
            pcm = torch.from_numpy(run)
            traced = teacher.push(pcm.to(device))
            single = alone(self._candidate, traced.fields, traced.lead, traced.loudness)
            chained = candidate.push(pcm.to(device)).own
            truth, own = ({name: field.cpu() for name, field in x.items()} for x in (traced.own, chained))
            self._count(recording, "alone", {name: field.cpu() for name, field in single.items()}, truth, truth)
            self._count(recording, "chained", own, truth, own)
            # The original, as late as the decoded sound; the silence after its end does not count.
            late = torch.cat([late[:, -CODEC_DELAY:].expand(len(pcm), -1), pcm], 1)
            real = slice(max(CODEC_DELAY - position, 0), samples + CODEC_DELAY - position)
            for column, fields in (("teacher", truth), ("candidate", own)):
                pair = fields["dec_pcm"].flatten(1), late[:, : pcm.shape[1]]
                self._add(recording, (column, "dec_pcm", "original"), *(x[:, real, None] for x in pair))
            self.samples[recording], position = samples, position + pcm.shape[1]

    def _count(self, recording: str, column: str, own: Fields, truth: Fields, fed: Fields) -> None:
        chosen = subsets(own, truth, fed)
        for field in STAGE_OF_FIELD:
            if field in own:
                pair = _by_band(field, own[field], truth[field])
                for name, counted in {"all": None, **chosen.get(field, {})}.items():
                    self._add(recording, (column, field, name), *pair, counted)

    def _add(self, recording: str, key: tuple[str, str, str], *pair: Tensor | None) -> None:
        sums = tally(*pair)  # type: ignore[arg-type]
        self.sums[key][recording] = self.sums[key].get(recording, 0.0) + sums

    def fields(self) -> dict[str, dict[str, Any]]:
        """Return of every field its stage, and what was measured, by column and subset."""
        result: dict[str, dict[str, Any]] = {field: {"stage": stage} for field, stage in STAGE_OF_FIELD.items()}
        for (column, field, subset), parts in self.sums.items():
            if column in COLUMNS:
                result[field].setdefault(column, {})[subset] = measures(parts, field in WHOLE)
        for column in COLUMNS:
            modes, quantized = result["bsm"][column], result["quantized"][column]
            counts = {name: modes.pop(name) for name in ("found", "missed", "invented")}
            for part in (None, *BAND_NAMES):
                found, missed, invented = ((count[part] if part else count)["values"] for count in counts.values())
                own = modes[MAIN["bsm"]]
                (own[part] if part else own).update(
                    {"found": found, "missed": missed, "invented": invented}
                    | {"precision": _ratio(found, found + invented), "recall": _ratio(found, found + missed)}
                    | {"F1": _ratio(2 * found, 2 * found + missed + invented)}
                )
            for part in (None, *BAND_NAMES):
                own, of = (x[part] if part else x for x in (quantized[MAIN["quantized"]], quantized["with bits"]))
                own["of those with bits (%)"] = 100 * _ratio(own["values"], of["values"])
        return result

    def original(self) -> dict[str, Any]:
        """Return SNRs of the decoded sounds to the original, in dB: all together, their mean, and of each recording."""
        parts = {column: self.sums[column, "dec_pcm", "original"] for column in ("teacher", "candidate")}
        rows = {r: {column: _snr(own[r].sum(1)) for column, own in parts.items()} for r in self.samples}
        for row in rows.values():
            row["difference"] = row["candidate"] - row["teacher"]
        finite = [row for row in rows.values() if all(map(math.isfinite, row.values()))]
        together = {column: _snr(sum(own.values()).sum(1)) for column, own in parts.items()}  # type: ignore[union-attr]
        mean = {name: _ratio(sum(row[name] for row in finite), len(finite)) for name in ("teacher", "candidate")}
        for row in (together, mean):
            row["difference"] = row["candidate"] - row["teacher"]
        return {"together": together, "mean": mean, "recordings": rows}


def measures(parts: Mapping[str, Sums], whole: bool) -> dict[str, Any]:
    """Return what the sums of recordings say: in all, of each band, and of the worst recording."""
    total = np.asarray(sum(parts.values()))
    result = _numbers(total.sum(1), whole)
    if total.shape[1] > 1:
        result |= {band: _numbers(total[:, i], whole) for i, band in enumerate(BAND_NAMES)}
    rated = {name: _numbers(sums.sum(1), whole) for name, sums in parts.items() if sums[_VALUES].any()}
    measure = "equal (%)" if whole else "SNR (dB)"
    if rated:
        worst = min(rated, key=lambda name: rated[name][measure])
        result["worst"] = {"recording": worst, **rated[worst]}
    return result


def _numbers(sums: Sums, whole: bool) -> dict[str, Any]:
    values, equal, difference = (float(sums[i]) for i in (_VALUES, _EQUAL, _DIFFERENCE))
    more = {"mean difference": _ratio(difference, values)} if whole else {"SNR (dB)": _snr(sums)}
    return {"values": int(values), "equal (%)": 100 * _ratio(equal, values), **more}


def _ratio(part: float, of: float) -> float:
    return part / of if of else math.nan


def _snr(sums: Sums) -> float:
    """Return dB; infinite if nothing differs."""
    energy, error = float(sums[_ENERGY]), float(sums[_ERROR])
    if error == 0:
        return math.inf if sums[_VALUES] else math.nan
    return 10 * math.log10(energy / error) if energy else -math.inf


def _by_band(field: str, own: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Bring fields into a shape that `tally` takes; sound units count as equal or not."""
    if field == "units":
        own = (own == truth).all(-1)
        truth = torch.ones_like(own)
    elif field == "dec_pcm":
        own, truth = own.flatten(1), truth.flatten(1)
    return (own, truth) if own.shape[-1] in _FIRSTS and own.dim() == 3 else (own[..., None], truth[..., None])
