"""Losses of a training over its epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from atrac_train.pictures.figure import new_figure, save
from atrac_train.tracking import Line


def draw_curve(lines: Sequence[Line], picture: Path, start: float | None = None) -> Path:
    """Draw training and validation loss, on a logarithmic scale if they are above 0.

    Args:
        lines: one or more lines of the training's log.
        picture: the PNG file to write.
        start: validation loss before the first epoch, if it is known.

    Raises: OSError
    """
    epochs = [line["epoch"] for line in lines]
    figure = new_figure("Loss", 5)
    axes = figure.add_subplot()
    for group in ("train", "validation"):
        axes.plot(epochs, [line[group]["loss"] for line in lines], marker="." if len(lines) < 50 else "", label=group)
    if start is not None:
        axes.axhline(start, color="C1", linewidth=1, linestyle=":", zorder=0, label="validation, before")
    best = min(lines, key=lambda line: float(line["validation"]["loss"]))
    axes.axvline(best["epoch"], color="0.7", linewidth=1, zorder=0, label=f"best, epoch {best['epoch']}")
    losses = [line[group]["loss"] for line in lines for group in ("train", "validation")]
    if all(math.isfinite(loss) and loss > 0 for loss in losses):
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, picture)
