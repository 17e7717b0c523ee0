"""Quantizer: its staircases, and how often it disagrees with the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from atrac_bitstream.tables import FRAME_SAMPLES, IDSF_MAX, IDWL_MAX, LEVELS, N_BFU_MAX, WORD_LENGTHS
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import ERROR, OWN, TRUTH, Array, array, new_figure, save

if TYPE_CHECKING:
    from atrac_train.objectives.quantizer import QuantizerObjective

_DRAWN: Final = (1, 2, 3)
"""Word length indices whose staircases are drawn: 2, 3 and 4 bits."""


@torch.no_grad()
def draw_quantizer(objective: QuantizerObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw staircases and disagreement by word length. Raises: OSError."""
    parts = []
    for example in examples:
        answer = objective.stage(*(example[name] for name in ("spectrum", "idsf", "idwl", "bsm")))
        lengths = objective.layout.expand(example["idwl"], example["bsm"])
        parts.append([array(x).ravel() for x in (lengths, example["quantized"] != answer)])
    index, unequal = (np.concatenate(part) for part in zip(*parts, strict=True))
    figure = new_figure("Quantizer: prediction and teacher", 8)
    grid = figure.add_gridspec(2, 3)
    for column, drawn in enumerate(_DRAWN):
        _draw_staircase(figure.add_subplot(grid[0, column]), objective, drawn)
    _draw_unequal(figure.add_subplot(grid[1, :]), index.astype(int), unequal)
    return [save(figure, folder / "quantizer.png")]


def _draw_staircase(axes: Any, objective: QuantizerObjective, index: int) -> None:
    like = next(objective.stage.parameters())
    scaled = torch.linspace(-1, 1, 8 * FRAME_SAMPLES).to(like).reshape(-1, FRAME_SAMPLES)
    idwl = torch.full((len(scaled), N_BFU_MAX), float(index)).to(like)
    for name, stage, look in (
        ("teacher", objective.teacher, {"color": TRUTH, "linewidth": 4}),
        ("prediction", objective.stage, {"color": OWN, "linewidth": 1.5, "linestyle": "--"}),
    ):
        quantized: Tensor = stage(scaled, torch.full_like(idwl, IDSF_MAX), idwl, torch.zeros(len(scaled), 3).to(like))
        axes.plot(array(scaled).ravel(), array(quantized).ravel(), label=name, **look)
    axes.set(title=f"{WORD_LENGTHS[index]} bits", xlabel="scaled value", ylabel="quantized value")
    axes.set_yticks(np.arange(-LEVELS[index], LEVELS[index] + 1, max(1, int(LEVELS[index]) // 3)))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")


def _draw_unequal(axes: Any, index: Array, unequal: Array) -> None:
    counts = np.bincount(index, minlength=IDWL_MAX + 1)
    share = 100 * np.bincount(index, unequal, minlength=IDWL_MAX + 1) / np.maximum(counts, 1)
    axes.bar(range(IDWL_MAX + 1), share, color=ERROR)
    names = [f"{bits}\n{count:,}" for bits, count in zip(WORD_LENGTHS, counts, strict=True)]
    axes.set_xticks(range(IDWL_MAX + 1), names, fontsize=8)
    axes.set(title="values that the teacher quantizes otherwise", xlabel="word length, bits; number of values")
    axes.set(ylabel="unequal, %", ylim=(0, None))
    axes.grid(alpha=0.3, axis="y")
