"""Transient detector: frames that are split into short blocks, and what its filters let through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from matplotlib.patches import Patch

from atrac_bitstream.tables import BANDS, FRAME_SAMPLES, SAMPLE_RATE
from atrac_modules.transient import high_pass_matrix
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import OWN, TRUTH, Array, array, decibel, new_figure, save

if TYPE_CHECKING:
    from atrac_train.objectives.transient import TransientObjective

_SHOWN: Final = 64
"""Frames, after frame 0, whose past is missing."""
_NAMES: Final = ("low", "mid", "high")
_OUTCOMES: Final = {"hits": "tab:green", "false alarms": "tab:red", "misses": "tab:orange"}


@torch.no_grad()
def draw_transient(objective: TransientObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw the bands of the item with most short frames, and the filters. Raises: OSError."""
    items = [(example["bands"][k], example["bsm"][k]) for example in examples for k in range(len(example["bands"]))]
    bands, bsm = max(items, key=lambda item: (float((item[1][1:] > 0).sum()), float(item[0].square().sum())))
    short, found = (array(x)[1 : _SHOWN + 1] > 0 for x in (bsm, objective.stage(bands)))
    figure = new_figure("Transient detector: short frames, and frequency response of the filters", 10)
    grid = figure.add_gridspec(4, 3)
    for band, values in enumerate(BANDS):
        axes = figure.add_subplot(grid[band, :])
        _draw_frames(axes, array(bands)[1 : _SHOWN + 1, values], short[:, band], found[:, band])
        axes.set(title=f"{_NAMES[band]} band", ylabel="amplitude")
        _draw_filters(figure.add_subplot(grid[3, band]), objective, band)
    handles = [Patch(color=TRUTH, alpha=0.4, label="short by the teacher")]
    handles += [Patch(color=colour, label=outcome) for outcome, colour in _OUTCOMES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return [save(figure, folder / "transient.png")]


def _draw_frames(axes: Any, signal: Array, short: Array, found: Array) -> None:
    """Draw a band's signal; shade the teacher's short frames and mark how they were found, as a strip on top."""
    axes.plot(np.arange(signal.size) / signal.shape[1], signal.reshape(-1), color="0.3", linewidth=0.6)
    masks = {"hits": short & found, "false alarms": found & ~short, "misses": short & ~found}
    for frame in np.flatnonzero(short):
        axes.axvspan(frame, frame + 1, color=TRUTH, alpha=0.4, linewidth=0)
    for outcome, mask in masks.items():
        for frame in np.flatnonzero(mask):
            axes.axvspan(frame, frame + 1, 0.91, 1, color=_OUTCOMES[outcome], linewidth=0)
    axes.margins(x=0)
    axes.set_xlabel(f"frame after the first ({1000 * FRAME_SAMPLES / SAMPLE_RATE:.1f} ms each)")


def _draw_filters(axes: Any, objective: TransientObjective, band: int) -> None:
    """Draw the power of a band's filters, added, over frequency as it is heard; mid and high run downwards."""
    width = (0.25, 0.25, 0.5)[band] * SAMPLE_RATE / 2000
    frequency = (0, width, width)[band] + np.linspace(0, width, 1025)
    teacher = _powers(high_pass_matrix()[:, 0])[0]  # the teacher reverses mid and high before it filters
    learned = _powers(array(objective.stage.filters[band])).sum(0)[:: -1 if band else 1]
    for power, look in ((teacher, {"color": TRUTH, "linewidth": 3, "label": "teacher"}),
                        (learned, {"color": OWN, "label": "learned"})):  # fmt: skip
        axes.plot(frequency, decibel(power / max(power.max(), 1e-30)), **look)
    axes.set(title=f"{_NAMES[band]} band, 0 dB = largest", xlabel="frequency, kHz", ylabel="gain, dB", ylim=(-80, 5))
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _powers(taps: Array) -> Array:
    """Return the power response of each filter, from 0 to the edge of the band. Shape: [*, taps] -> [N, 1025]."""
    return np.square(np.abs(np.fft.rfft(taps.reshape(-1, taps.shape[-1]), 2048)))
