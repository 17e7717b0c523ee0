"""Quantizer: the steps of each word length, and where between two of them the decision lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from atrac_bitstream.tables import IDWL_MAX, N_BFU_MAX
from atrac_modules import BfuLayout, NeuralQuantizer, ReferenceQuantizer
from atrac_train.objective import Objective, Scores, Tensors
from atrac_train.pictures import draw_quantizer


class QuantizerObjective(Objective):
    """scaled, idwl, bsm -> quantized.

    Training draws the word lengths, so that each occurs, and the values of every other frame, so that large ones do.
    """

    fields = ("scaled", "bsm", "idwl", "quantized")
    frames: ClassVar[int] = 1

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.stage, self.teacher, self.layout = NeuralQuantizer(**model), ReferenceQuantizer(), BfuLayout()

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        scaled, bsm, idwl = batch["scaled"], batch["bsm"].to(batch["scaled"]), batch["idwl"].to(batch["scaled"])
        if not self.training:
            return {"scaled": scaled, "bsm": bsm, "idwl": idwl, "quantized": batch["quantized"].to(scaled)}
        idwl = torch.randint(IDWL_MAX + 1, (*scaled.shape[:-1], N_BFU_MAX), generator=generator).to(scaled)
        evenly = 2 * torch.rand(scaled.shape, generator=generator).to(scaled) - 1
        scaled = torch.where(torch.rand(len(scaled), 1, 1, generator=generator).to(scaled) < 0.5, evenly, scaled)
        return {"scaled": scaled, "bsm": bsm, "idwl": idwl, "quantized": self.teacher(scaled, idwl, bsm)}

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        """Measure by how much what is rounded lies outside what rounds to the right number, as a share of all steps."""
        index, bsm = example["idwl"].long(), example["bsm"]
        exact = self.stage.unrounded(example["scaled"], index, bsm)
        beyond = ((exact - example["quantized"]).abs() - 0.5).clamp_min(0)
        steps = self.layout.expand(self.stage.levels[index], bsm)
        return {"loss": (beyond / steps.clamp_min(1)).mean()}

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        quantized = self.stage(example["scaled"], example["idwl"], example["bsm"])
        has_bits = self.layout.expand(example["idwl"], example["bsm"]) > 0
        equal = (quantized == example["quantized"]) & has_bits
        return {"equal": equal.sum().double(), "values": has_bits.sum().double()}

    def scores(self, sums: Tensors) -> Scores:
        return {"equal where there are bits (%)": float(100 * sums["equal"] / sums["values"])}

    def draw(self, examples: Sequence[Tensors], folder: Path) -> list[Path]:
        return draw_quantizer(self, examples, folder)
