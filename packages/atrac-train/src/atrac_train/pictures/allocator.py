"""Allocator: the word lengths of one run over time, and how many BFUs are carried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator

from atrac_bitstream.tables import BFU_AMOUNTS, BFU_BANDS, N_BFU_MAX, WORD_LENGTHS
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import OWN, TRUTH, Array, array, new_figure, save

if TYPE_CHECKING:
    from atrac_train.objectives.allocator import AllocatorObjective

_SHOWN: Final = 240
"""Sound units."""
_FAR: Final = 3
"""Bits of difference from which on colours are the same."""


@torch.no_grad()
def draw_allocator(objective: AllocatorObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw the run in which most BFUs have bits. Raises: OSError."""
    example = max(examples, key=lambda one: int((one["idwl"][:_SHOWN] > 0).sum()))
    units = {name: field[:_SHOWN] for name, field in example.items()}
    answer = objective.stage(units["spectrum"], units["idsf"], units["bsm"], units["loudness"])
    own, truth = (WORD_LENGTHS[array(idwl).astype(int)] for idwl in (answer.idwl, units["idwl"]))
    counted = (own > 0) | (truth > 0)
    equal = 100 * (own == truth)[counted].mean() if counted.any() else 100.0

    figure = new_figure("Allocator: word lengths of one run, prediction and teacher", 14)
    grid = figure.subplots(4, 1, sharex=True, height_ratios=[1.2, 1.2, 1.2, 0.8])
    for axes, name, bits in zip(grid, ("teacher", "prediction"), (truth, own)):
        image = _draw_map(axes, bits, f"word length, {name}", "magma", 0, WORD_LENGTHS[-1])
        figure.colorbar(image, ax=axes, label="bits per value")
    title = f"difference: {equal:.1f} % equal where either has bits"
    image = _draw_map(grid[2], own - truth, title, "RdBu_r", -_FAR, _FAR)
    figure.colorbar(image, ax=grid[2], label="prediction - teacher, bits", extend="both")
    _draw_amounts(grid[3], array(answer.n_bfu), array(units["n_bfu"]))
    return [save(figure, folder / "word-lengths.png")]


def _draw_map(axes: Any, bits: Array, title: str, colours: str, low: int, high: int) -> Any:
    """Draw a value for each BFU over time; lines part the bands."""
    extent = (-0.5, len(bits) - 0.5, -0.5, N_BFU_MAX - 0.5)
    look = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "extent": extent}
    image = axes.imshow(bits.T, cmap=colours, vmin=low, vmax=high, **look)
    for border in np.flatnonzero(np.diff(BFU_BANDS)):
        axes.axhline(border + 0.5, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(title=title, ylabel="BFU")
    return image


def _draw_amounts(axes: Any, own: Array, truth: Array) -> None:
    axes.plot(truth, color=TRUTH, linewidth=3, label="teacher", marker="o" if len(truth) == 1 else None)
    axes.plot(own, color=OWN, linewidth=1.3, linestyle="--", label="prediction", marker="." if len(own) == 1 else None)
    axes.set(title=f"BFUs that are carried: {100 * (own == truth).mean():.1f} % equal", ylabel="BFUs")
    axes.set(xlabel="sound unit of the run, one channel after the other", yticks=BFU_AMOUNTS)
    axes.set_ylim(BFU_AMOUNTS[0] - 2, BFU_AMOUNTS[-1] + 10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", ncols=2)
