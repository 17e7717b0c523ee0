"""Dequantizer: the learned tables beside the standard's, and what the correction gains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atrac_bitstream.tables import IDSF_MAX, IDWL_MAX, LEVELS, SCALE_FACTORS, WORD_LENGTHS
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import ERROR, OWN, array, decibel, new_figure, save

if TYPE_CHECKING:
    from atrac_train.objectives.dequantizer import DequantizerObjective


@torch.no_grad()
def draw_dequantizer(objective: DequantizerObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw errors of the tables; with a correction, also its gain by word length. Raises: OSError."""
    figure = new_figure("Dequantizer: learned and standard", 8 if objective.corrects else 4)
    grid = figure.add_gridspec(2 if objective.corrects else 1, 2)
    factors, lengths = (figure.add_subplot(grid[0, column]) for column in range(2))
    factor_error = array(objective.stage.levels) - np.log2(SCALE_FACTORS)
    step_error = np.log2(np.abs(array(objective.stage.steps * objective.stage.scale)[1:]) / LEVELS[1:])
    common = factor_error.mean()  # a factor of all scale factors and all steps cancels; it is taken off both
    factors.plot(np.arange(IDSF_MAX + 1), factor_error - common, ".-", color=ERROR)
    factors.set(title="scale factors: learned - standard", xlabel="scale factor index", ylabel="difference of log2")
    lengths.plot(range(1, IDWL_MAX + 1), step_error - common, ".-", color=ERROR)
    lengths.set(title="steps: learned - standard", xlabel="word length, bits", ylabel="difference of log2")
    lengths.set_xticks(range(1, IDWL_MAX + 1), [str(bits) for bits in WORD_LENGTHS[1:]])
    for axes in (factors, lengths):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.grid(alpha=0.3)
    if objective.corrects:
        _draw_gain(figure.add_subplot(grid[1, :]), objective, examples)
    return [save(figure, folder / "values.png")]


def _draw_gain(axes: Any, objective: DequantizerObjective, examples: Sequence[Tensors]) -> None:
    sums = {name: np.zeros(IDWL_MAX + 1) for name in ("own", "standard", "values")}
    for example in examples:
        idsf, idwl, bsm = (example[name] for name in ("idsf", "idwl", "bsm"))
        carried = array(example["carried"]) > 0
        index = array(objective.layout.expand(idwl, bsm))[carried].astype(int)
        own = objective.stage(example["quantized"], idsf, idwl, bsm)
        for name, decoded in (("own", own), ("standard", example["dec_spectrum"])):
            error = np.square(array(decoded - example["spectrum"]))[carried]
            sums[name] += np.bincount(index, error, minlength=IDWL_MAX + 1)
        sums["values"] += np.bincount(index, minlength=IDWL_MAX + 1)
    known = (sums["own"] > 0) & (sums["standard"] > 0)
    gain = np.where(known, decibel(sums["standard"] / np.where(known, sums["own"], 1)), 0)
    axes.bar(range(IDWL_MAX + 1), gain, color=OWN)
    names = [f"{bits}\n{count:,.0f}" for bits, count in zip(WORD_LENGTHS, sums["values"], strict=True)]
    axes.set_xticks(range(IDWL_MAX + 1), names, fontsize=8)
    axes.set(title="gain over the standard", xlabel="word length, bits; number of values", ylabel="gain, dB")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(alpha=0.3)
