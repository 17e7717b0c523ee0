"""Scale factors: two tasks, one table. The values show what each scale factor is, the indices where it takes over."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import softplus

from atrac_bitstream.tables import IDSF_MAX
from atrac_modules import BfuLayout, NeuralScaler, ReferenceQuantizer, ReferenceScaler
from atrac_train.objective import Objective, Scores, Tensors

LOWEST: Final = -23.0
"""log2 of the largest magnitude of the softest frame that training draws: below the smallest scale factor."""
WIDTH: Final = 0.02
"""log2 of magnitude over which the slope of a threshold turns."""
LOG2_SCALE_FACTORS: Final = torch.arange(IDSF_MAX + 1) / 3 - 21
"""The scale factors of the format."""
FAR: Final = 60.0
"""log2 of magnitude that stands for beyond the table."""


class ScalerObjective(Objective):
    """spectrum, bsm -> idsf. Training draws the level of each frame, so that every scale factor occurs."""

    fields = ("spectrum", "bsm", "idsf", "scaled")
    frames: int = 1

    def __init__(self, model: dict[str, Any], index_weight: float = 0.1) -> None:
        super().__init__()
        self.index_weight = index_weight
        self.stage, self.teacher, self.layout = NeuralScaler(**model), ReferenceScaler(), BfuLayout()
        self.quantizer = ReferenceQuantizer()

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        spectrum, bsm = batch["spectrum"], batch["bsm"].to(batch["spectrum"])
        if not self.training:
            return {"spectrum": spectrum, "bsm": bsm, "idsf": batch["idsf"].to(bsm), "scaled": batch["scaled"]}
        largest = spectrum.abs().amax(-1, keepdim=True).clamp_min(1e-9)
        level = torch.empty(largest.shape).uniform_(LOWEST, 0.2, generator=generator).to(spectrum)
        spectrum = spectrum / largest * level.exp2()
        idsf = self.teacher(spectrum, bsm)
        return {"spectrum": spectrum, "bsm": bsm, "idsf": idsf, "scaled": self.quantizer.scaled(spectrum, idsf, bsm)}

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
        equal = self.stage(example["spectrum"], example["bsm"]) == example["idsf"]
        count = torch.tensor(float(equal.numel()), dtype=torch.float64, device=equal.device)
        return {"equal": equal.sum().double(), "indices": count}

    def scores(self, sums: Tensors) -> Scores:
        error = (self.stage.levels.detach().cpu() - LOG2_SCALE_FACTORS).abs().max()
        return {
            "IDSF equal (%)": float(100 * sums["equal"] / sums["indices"]),
            "largest error of the table (log2)": float(error),
        }
