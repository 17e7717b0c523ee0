"""Quantizer: the steps of each word length, and where between two of them the decision lies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from atrac_bitstream.tables import IDSF_MAX, IDWL_MAX, N_BFU_MAX
from atrac_codec import build_encoder, load_stage
from atrac_modules import BfuLayout, NeuralQuantizer, NeuralScaler, ReferenceQuantizer
from atrac_train.objective import Objective, Scores, Tensors


class QuantizerObjective(Objective):
    """spectrum, idsf, idwl, bsm -> quantized.

    Training works on scaled values. It draws the word lengths, so that each occurs, and the values of every other
    frame, so that large ones do.

    Args:
        scaler: preset, codec folder or checkpoint with the learned scaler whose table of scale factors is taken over.
    """

    fields = ("spectrum", "scaled", "bsm", "idsf", "idwl", "quantized")
    frames: int = 1

    def __init__(self, model: dict[str, Any], scaler: str = "neural-stages") -> None:
        super().__init__()
        self.stage, self.teacher, self.layout = NeuralQuantizer(**model), ReferenceQuantizer(), BfuLayout()
        self.stage.log2_scale_factors.copy_(_learned_scaler(scaler).levels.detach())

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        scaled, bsm, idwl = batch["scaled"], batch["bsm"].to(batch["scaled"]), batch["idwl"].to(batch["scaled"])
        if not self.training:
            names = ("spectrum", "idsf", "quantized")
            stored = {name: batch[name].to(scaled) for name in names}
            return {"scaled": scaled, "bsm": bsm, "idwl": idwl, **stored}
        idwl = torch.randint(IDWL_MAX + 1, (*scaled.shape[:-1], N_BFU_MAX), generator=generator).to(scaled)
        evenly = 2 * torch.rand(scaled.shape, generator=generator).to(scaled) - 1
        scaled = torch.where(torch.rand(len(scaled), 1, 1, generator=generator).to(scaled) < 0.5, evenly, scaled)
        idsf = torch.full_like(idwl, IDSF_MAX)  # a scale factor of 1 leaves scaled values as they are
        return {"scaled": scaled, "bsm": bsm, "idwl": idwl, "quantized": self.teacher(scaled, idsf, idwl, bsm)}

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        """Measure by how much what is rounded lies outside what rounds to the right number, as a share of all steps."""
        index, bsm = example["idwl"].long(), example["bsm"]
        exact = self.stage.unrounded(example["scaled"], index, bsm)
        beyond = ((exact - example["quantized"]).abs() - 0.5).clamp_min(0)
        steps = self.layout.expand(self.stage.levels[index], bsm)
        return {"loss": (beyond / steps.clamp_min(1)).mean()}

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        quantized = self.stage(*(example[name] for name in ("spectrum", "idsf", "idwl", "bsm")))
        has_bits = self.layout.expand(example["idwl"], example["bsm"]) > 0
        equal = (quantized == example["quantized"]) & has_bits
        return {"equal": equal.sum().double(), "values": has_bits.sum().double()}

    def scores(self, sums: Tensors) -> Scores:
        return {"equal where there are bits (%)": float(100 * sums["equal"] / sums["values"])}


def _learned_scaler(name: str) -> NeuralScaler:
    """Return a learned scaler by the name of its preset, codec folder or checkpoint. Raises: ValueError."""
    found = load_stage(name) if name.endswith(".safetensors") else build_encoder(name).scaler
    if not isinstance(found, NeuralScaler):
        raise ValueError(f"objective.scaler = {name!r}: its scaler is a {type(found).__name__}, allowed NeuralScaler")
    return found
