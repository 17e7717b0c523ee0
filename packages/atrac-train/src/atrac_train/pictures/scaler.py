"""Scaler: scale factor indices beside the teacher's, the learned table beside the format's, error of what is scaled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.colors import LogNorm

from atrac_bitstream.tables import IDSF_MAX, SCALE_FACTORS
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import ERROR, OWN, Array, array, new_figure, save

if TYPE_CHECKING:
    from atrac_train.objectives.scaler import ScalerObjective

_SMALLEST = -10
"""log10 of the smallest error that has a bin of its own."""


@torch.no_grad()
def draw_scaler(objective: ScalerObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw indices and the table. Raises: OSError."""
    pairs = [(objective.stage(example["spectrum"], example["bsm"]), example["idsf"]) for example in examples]
    own, truth = (np.concatenate([array(x).reshape(-1, x.shape[-1]) for x in part]) for part in zip(*pairs))
    figure = new_figure("Scaler: prediction and teacher", 5)
    indices, table, difference = figure.subplots(1, 3)
    _draw_indices(figure, indices, own, truth)
    _draw_table(table, difference, array(objective.stage.levels))
    return [save(figure, folder / "scaler.png")]


def _draw_indices(figure: Any, axes: Any, own: Array, truth: Array) -> None:
    counts = np.zeros((IDSF_MAX + 1, IDSF_MAX + 1))
    np.add.at(counts, (own.astype(int).ravel(), truth.astype(int).ravel()), 1)
    norm = LogNorm(1, max(counts.max(), 2))
    image = axes.imshow(np.where(counts > 0, counts, np.nan), origin="lower", norm=norm, cmap="viridis_r")
    axes.plot([0, IDSF_MAX], [0, IDSF_MAX], color="black", linewidth=0.5, linestyle=":", label="equal")
    axes.set(
        title=f"scale factor index: {100 * (own == truth).mean():.4f} % equal",
        xlabel="teacher's index",
        ylabel="predicted index",
    )
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    figure.colorbar(image, ax=axes, label="BFUs")


def _draw_table(axes: Any, difference: Any, levels: Array) -> None:
    given, index = np.log2(SCALE_FACTORS), np.arange(IDSF_MAX + 1)
    axes.plot(index, levels, ".", color=OWN, markersize=6, label="learned")
    axes.plot(index, given, color="black", linewidth=0.8, label="format: index / 3 - 21")
    axes.set(title="table of scale factors", xlabel="scale factor index", ylabel="log2 of the scale factor")
    axes.legend(loc="upper left")
    difference.axhline(0, color="black", linewidth=0.8)
    difference.plot(index, levels - given, ".-", color=ERROR, linewidth=0.8)
    difference.set(
        title="table of scale factors: learned - format", xlabel="scale factor index", ylabel="difference of log2"
    )
    for one in (axes, difference):
        one.grid(alpha=0.3)
