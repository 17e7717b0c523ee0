"""Dequantizer: the value of each step; with a correction, what the coefficient was before it was quantized."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from atrac_bitstream.tables import BANDS, IDSF_MAX, IDWL_MAX, WORD_LENGTHS
from atrac_modules import BfuLayout, NeuralDequantizer, ReferenceDequantizer
from atrac_modules.bfu import carries
from atrac_train.objective import Objective, Scores, Tensors

_BANDS: Final = ("low", "mid", "high")


class DequantizerObjective(Objective):
    """quantized, idsf, idwl, bsm -> spectrum.

    What a step is, the teacher shows: training draws scale factors and word lengths, so that each occurs with every
    other. With a correction (`hidden` above 0) there is a second answer, the spectrum before quantization as recordings
    have it; errors count in steps, so that soft frames say as much as loud ones.
    """

    fields = ("spectrum", "bsm", "idsf", "idwl", "n_bfu", "quantized", "dec_spectrum")
    frames: int = 1

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.stage, self.teacher, self.layout = NeuralDequantizer(**model), ReferenceDequantizer(), BfuLayout()
        self.corrects: Final = self.stage.correction is not None
        if self.corrects:
            self.frames = 8  # of which all but the first have a frame before

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        spectrum = batch["spectrum"]
        names = ("bsm", "idsf", "idwl", "quantized")
        example = {name: batch[name].to(spectrum) for name in names} | {
            "spectrum": spectrum,
            "dec_spectrum": batch["dec_spectrum"],
        }
        carried = carries(batch["n_bfu"]).to(spectrum)
        example["idsf"] = example["idsf"] * carried
        example["carried"] = self.layout.expand(carried, example["bsm"])
        for name, largest in (("idsf", IDSF_MAX), ("idwl", IDWL_MAX)):
            drawn = torch.randint(largest + 1, example[name].shape, generator=generator)
            example[f"drawn {name}"] = drawn.to(spectrum) if self.training else example[name]
        return example

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        bsm = example["bsm"]
        own, true = self._steps(example["drawn idsf"], example["drawn idwl"], bsm)
        steps = (own.log2() - true.log2()).abs().mean()
        if self.stage.correction is None:
            return {"loss": steps}
        quantized, idwl = example["quantized"], example["idwl"]
        own, true = self._steps(example["idsf"], idwl, bsm)
        correction = self.stage.correction(quantized, own.detach(), idwl, bsm, self.layout)
        error = (quantized + correction - example["spectrum"] / true) * example["carried"]
        values = error.square().sum() / example["carried"].sum()
        return {"loss": steps + values, "steps": steps, "values": values}

    def _steps(self, idsf: Tensor, idwl: Tensor, bsm: Tensor) -> tuple[Tensor, Tensor]:
        """Return own steps and the teacher's, which its answer to a spectrum of ones shows. Shape: [*, F, 512]."""
        own = self.stage.step(idsf, idwl, bsm)
        return own, self.teacher(torch.ones_like(own), idsf, idwl, bsm)

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        idsf, idwl, bsm = (example[name] for name in ("idsf", "idwl", "bsm"))
        own = self.stage(example["quantized"], idsf, idwl, bsm).double()
        standard, spectrum = example["dec_spectrum"].double(), example["spectrum"].double()
        step = self._steps(idsf, idwl, bsm)[1].double()
        index = self.layout.expand(idwl, bsm).long()[example["carried"] > 0]
        sums = {"energy": standard.square().sum(), "error": (own - standard).square().sum()}
        for name, decoded in (("own", own), ("standard", standard)):
            error = (decoded - spectrum).square()
            for unit, scaled in (("", error), (" in steps", error / step.square())):
                for band, place in zip(_BANDS, BANDS, strict=True):
                    sums[f"{name}{unit} {band}"] = (scaled * example["carried"])[..., place].sum()
                by_length = torch.zeros(IDWL_MAX + 1, dtype=torch.float64, device=error.device)
                sums[name + unit] = by_length.index_add(0, index, scaled[example["carried"] > 0])
        return sums

    def scores(self, sums: Tensors) -> Scores:
        scores = {"SNR to the standard values (dB)": float(10 * torch.log10(sums["energy"] / sums["error"]))}
        if not self.corrects:
            return scores
        for unit in ("", " in steps"):
            own, standard = sums["own" + unit], sums["standard" + unit]
            scores[f"gain{unit} (dB)"] = float(10 * torch.log10(standard.sum() / own.sum()))
            scores |= {
                f"gain{unit} {band} (dB)": float(
                    10 * torch.log10(sums[f"standard{unit} {band}"] / sums[f"own{unit} {band}"])
                )
                for band in _BANDS
                if sums[f"standard{unit} {band}"] > 0
            }
            scores |= {
                f"gain{unit} at {WORD_LENGTHS[k]} bits (dB)": float(10 * torch.log10(standard[k] / own[k]))
                for k in range(IDWL_MAX + 1)
                if standard[k] > 0
            }
        return scores
