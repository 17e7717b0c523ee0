"""Quantizer: its staircases, its errors, and how often it disagrees with the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from atrac_bitstream.tables import FRAME_SAMPLES, IDSF_MAX, IDWL_MAX, LEVELS, N_BFU_MAX, WORD_LENGTHS
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import ERROR, OWN, TRUTH, Array, array, new_figure, save, say

if TYPE_CHECKING:
    from atrac_train.objectives.quantizer import QuantizerObjective

_DRAWN: Final = (1, 2, 3)
"""Word length indices: 2, 3 and 4 bits."""


@torch.no_grad()
def draw_quantizer(objective: QuantizerObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw staircases, errors and disagreement. Raises: OSError."""
    parts = []
    for example in examples:
        answer = objective.stage(*(example[name] for name in ("spectrum", "idsf", "idwl", "bsm")))
        lengths = objective.layout.expand(example["idwl"], example["bsm"])
        parts.append([array(x).ravel() for x in (lengths, example["scaled"], example["quantized"], answer)])
    index, scaled, truth, predicted = (np.concatenate(part) for part in zip(*parts, strict=True))
    figure = new_figure("Quantizer: prediction and teacher", 12)
    grid = figure.add_gridspec(3, 3)
    for column, drawn in enumerate(_DRAWN):
        _draw_staircase(figure.add_subplot(grid[0, column]), objective, drawn)
        chosen = index == drawn
        exact = scaled[chosen] * LEVELS[drawn]
        errors = {"teacher": exact - truth[chosen], "prediction": exact - predicted[chosen]}
        _draw_errors(figure.add_subplot(grid[1, column]), drawn, errors)
    _draw_unequal(figure.add_subplot(grid[2, :]), index.astype(int), predicted != truth)
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
    step = max(1, int(LEVELS[index]) // 3)
    axes.set(title=f"{WORD_LENGTHS[index]} bits", xlabel="scaled value", ylabel="quantized value")
    axes.set_yticks(np.arange(-LEVELS[index], LEVELS[index] + 1, step))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")


def _draw_errors(axes: Any, index: int, errors: dict[str, Array]) -> None:
    edges = np.linspace(-1, 1, 81)
    for name, look in (("teacher", {"color": TRUTH, "fill": True}), ("prediction", {"color": OWN, "linewidth": 1.5})):
        counts, _ = np.histogram(np.clip(errors[name], -1, 1), edges)
        axes.stairs(counts, edges, label=name, **look)
    if not len(errors["teacher"]):
        say(axes, f"no values of {WORD_LENGTHS[index]} bits")
    axes.set(title=f"error at {WORD_LENGTHS[index]} bits", xlabel="scaled × levels - quantized, steps", ylabel="values")
    axes.set_xlim(-1, 1)
    axes.margins(y=0.25)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")


def _draw_unequal(axes: Any, index: Array, unequal: Array) -> None:
    counts = np.bincount(index, minlength=IDWL_MAX + 1)
    wrong = np.bincount(index, unequal, minlength=IDWL_MAX + 1)
    share = 100 * wrong / np.maximum(counts, 1)
    lowest = 10.0 ** np.floor(np.log10(share[share > 0].min(initial=0.1))) / 2
    axes.bar(range(IDWL_MAX + 1), np.maximum(share - lowest, 0), bottom=lowest, color=ERROR)
    for place, (count, own) in enumerate(zip(counts, wrong, strict=True)):
        said = f"{own:,.0f}\nof {count:,}" if count else "–"
        axes.text(place, max(share[place], lowest) * 1.15, said, ha="center", va="bottom", fontsize=8)
    axes.set_yscale("log")
    axes.set_yticks(10.0 ** np.arange(np.ceil(np.log10(lowest)), 3))
    axes.set_ylim(lowest, 30 * max(share.max(), 1))
    axes.set_xticks(range(IDWL_MAX + 1), [str(bits) for bits in WORD_LENGTHS])
    axes.set(title="values that the teacher quantizes otherwise", xlabel="word length, bits", ylabel="unequal, %")
    axes.grid(alpha=0.3, axis="y")
