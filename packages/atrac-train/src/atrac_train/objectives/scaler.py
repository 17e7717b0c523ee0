"""Scale factors: two tasks, one table. The values show what each scale factor is, the indices where it takes over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor
from torch.nn.functional import softplus

from atrac_modules import BfuLayout, NeuralScaler, ReferenceScaler
from atrac_train.objective import Objective, Scores, Tensors
from atrac_train.pictures import draw_scaler

LOWEST: Final = -23.0
"""log2 of the largest magnitude of the softest frame that training draws: below the smallest scale factor."""
WIDTH: Final = 0.02
"""log2 of magnitude over which the slope of a threshold turns."""
FAR: Final = 60.0
"""log2 of magnitude that stands for beyond the table."""


class ScalerObjective(Objective):
    """spectrum, bsm -> idsf, scaled. Training draws the level of each frame, so that every scale factor occurs."""

    fields = ("spectrum", "bsm", "idsf", "scaled")
    frames: ClassVar[int] = 1

    def __init__(self, model: dict[str, Any], index_weight: float = 0.1) -> None:
        super().__init__()
        self.index_weight = index_weight
        self.stage, self.teacher, self.layout = NeuralScaler(**model), ReferenceScaler(), BfuLayout()

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        spectrum, bsm = batch["spectrum"], batch["bsm"].to(batch["spectrum"])
        if not self.training:
            return {"spectrum": spectrum, "bsm": bsm, "idsf": batch["idsf"].to(bsm), "scaled": batch["scaled"]}
        largest = spectrum.abs().amax(-1, keepdim=True).clamp_min(1e-9)
        level = torch.empty(largest.shape).uniform_(LOWEST, 0.2, generator=generator).to(spectrum)
        spectrum = spectrum / largest * level.exp2()
        answer = self.teacher(spectrum, bsm)
        return {"spectrum": spectrum, "bsm": bsm, "idsf": answer.idsf, "scaled": answer.scaled}

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        bsm, idsf, levels = example["bsm"], example["idsf"].long(), self.stage.levels
        largest, scaled = (self.layout.maximum(example[name], bsm) for name in ("spectrum", "scaled"))
        # Where nothing was cut off, the quotient of the largest magnitudes is the scale factor.
        telling = (largest > 1e-12) & (largest < 1)
        own = levels[idsf]
        error = (largest.clamp_min(1e-12) / scaled.clamp_min(1e-12)).log2() - own
        values = (error.abs() * telling).sum() / telling.sum().clamp_min(1)
        magnitude = largest.clamp_min(1e-12).log2()
        above = torch.where(idsf < len(levels) - 1, own - magnitude, FAR)
        below = torch.where(idsf > 0, magnitude - levels[(idsf - 1).clamp_min(0)], FAR)
        index = WIDTH * (softplus(-above / WIDTH) + softplus(-below / WIDTH)).mean()
        return {"loss": values + self.index_weight * index, "values": values, "index": index}

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        answer = self.stage(example["spectrum"], example["bsm"])
        equal = answer.idsf == example["idsf"]
        error = (answer.scaled - example["scaled"]).double()
        given = self.stage.scale(example["spectrum"], example["idsf"], example["bsm"]) - example["scaled"]
        return {
            "equal": equal.sum().double(),
            "indices": torch.tensor(float(equal.numel()), dtype=torch.float64, device=equal.device),
            "error": error.square().sum(),
            "given error": given.double().square().sum(),
            "values": torch.tensor(float(error.numel()), dtype=torch.float64, device=equal.device),
        }

    def scores(self, sums: Tensors) -> Scores:
        return {
            "IDSF equal (%)": float(100 * sums["equal"] / sums["indices"]),
            "values MSE": float(sums["error"] / sums["values"]),
            "values MSE with the teacher's IDSF": float(sums["given error"] / sums["values"]),
        }

    def draw(self, examples: Sequence[Tensors], folder: Path) -> list[Path]:
        return draw_scaler(self, examples, folder)
