"""Transient detector: which frames are split, how far changes of level exceed their thresholds, what filters hear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from atrac_bitstream.tables import BANDS, FRAME_SAMPLES, SAMPLE_RATE
from atrac_modules.transient import FALL, RISE, high_pass_matrix
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import OWN, TRUTH, Array, array, decibel, new_figure, save

if TYPE_CHECKING:
    from atrac_train.objectives.transient import TransientObjective

_SHOWN: Final = 64
"""Frames, after frame 0, whose past is missing."""
_NAMES: Final = ("low", "mid", "high")
_OUTCOMES: Final = {"hits": "tab:green", "false alarms": "tab:red", "misses": "tab:orange"}
_RANGE: Final = (-30.0, 50.0)
"""dB of excess that are drawn."""


def draw_transient(objective: TransientObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw short frames over the waveform, and the filters. Raises: OSError."""
    return [_draw_masks(objective, examples, folder / "masks.png"), _draw_filters(objective, folder / "filters.png")]


@torch.no_grad()
def _draw_masks(objective: TransientObjective, examples: Sequence[Tensors], picture: Path) -> Path:
    bands, truth = _most_short(examples)
    first = min(1, len(bands) - 1)
    own = array(objective.stage(bands))[first:] > 0
    excess = [array(beyond)[first:] for beyond in objective.stage.excess(bands)]
    sound, truth = array(bands)[first:], truth[first:]
    # Where to look: the stretch with most short frames, else the loudest.
    worth = truth.sum(-1) + own.sum(-1) * 0.01
    worth = worth if worth.any() else np.square(sound).sum(-1)
    sums = np.convolve(worth, np.ones(min(_SHOWN, len(worth))), "valid")
    frames = slice(int(sums.argmax()), int(sums.argmax()) + _SHOWN)

    figure = new_figure("Transient detector: the teacher's short frames and the prediction's", 13)
    grid = figure.subplots(6, 1, sharex=True, height_ratios=[1.2, 1] * 3)
    for index, values in enumerate(BANDS):
        short, found = truth[frames, index], own[frames, index]
        waveform, change = grid[2 * index : 2 * index + 2]
        signal = sound[frames, values]
        name = f"{_NAMES[index]} band"
        time = frames.start + np.arange(signal.size) / signal.shape[1]
        waveform.plot(time, signal.reshape(-1), color="0.3", linewidth=0.6)
        waveform.margins(x=0)
        size = max(1.05 * float(np.abs(signal).max()), 1e-6)
        waveform.set_ylim(-size, 1.3 * size)
        counts = _shade(waveform, frames.start, short, found)
        waveform.set(title=f"{name}: " + ", ".join(f"{one} {n}" for one, n in counts.items()), ylabel="amplitude")
        beyond = excess[index][frames]
        steps = np.clip(np.nan_to_num(beyond.reshape(-1), nan=_RANGE[0]), *_RANGE)
        edges = frames.start + np.arange(len(steps) + 1) / beyond.shape[1]
        _shade(change, frames.start, short)
        change.stairs(steps, edges, color=OWN, linewidth=1, baseline=None)
        change.axhline(0, color="black", linewidth=0.8)
        change.set(title=f"{name}: by how much changes of level exceed the learned thresholds", ylabel="excess, dB")
        change.set_ylim(*_RANGE)
        change.grid(alpha=0.3)
    grid[-1].set_xlabel(f"frame after the first ({1000 * FRAME_SAMPLES / SAMPLE_RATE:.1f} ms each)")
    grid[-1].set_xlim(frames.start, frames.start + len(truth[frames]))
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [Patch(color=TRUTH, alpha=0.4, label="short, says the teacher")]
    handles += [Patch(color=colour, label=f"prediction: {outcome}") for outcome, colour in _OUTCOMES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return save(figure, picture)


def _most_short(examples: Sequence[Tensors]) -> tuple[torch.Tensor, Array]:
    """Return bands and the teacher's mask of the item with most short frames, among equals the loudest."""
    best: tuple[float, float] | None = None
    for example in examples:
        short = array(example["bsm"]) > 0
        for item, mask in enumerate(short):
            score = (float(mask[1:].sum()), float(example["bands"][item].square().sum()))
            if best is None or score > best:
                best, found = score, (example["bands"][item], mask)
    return found


def _shade(axes: Any, start: int, short: Array, found: Array | None = None) -> dict[str, int]:
    """Shade the teacher's short frames; draw what was found as a strip on top. Return how often which."""
    for frame in np.flatnonzero(short):
        axes.axvspan(start + frame, start + frame + 1, color=TRUTH, alpha=0.4, linewidth=0)
    if found is None:
        return {}
    masks = {"hits": short & found, "false alarms": found & ~short, "misses": short & ~found}
    for outcome, mask in masks.items():
        for frame in np.flatnonzero(mask):
            axes.axvspan(start + frame, start + frame + 1, 0.91, 1, color=_OUTCOMES[outcome], linewidth=0)
    return {outcome: int(mask.sum()) for outcome, mask in masks.items()}


def _draw_filters(objective: TransientObjective, picture: Path) -> Path:
    """Draw frequency responses over frequency as it is heard: mid and high run downwards in their bands."""
    stage = objective.stage
    figure = new_figure("Transient detector: frequency response, powers of a band's filters added, 0 dB = largest", 4.5)
    teacher = high_pass_matrix()[:, 0]
    for index, axes in enumerate(figure.subplots(1, 3)):
        width = (0.25, 0.25, 0.5)[index] * SAMPLE_RATE / 2000
        frequency = (0, width, width)[index] + np.linspace(0, width, 1025)
        filters = _powers(array(stage.filters[index]))
        own = filters.sum(0)
        own, filters = (decibel(power / max(own.max(), 1e-30)) for power in (own, filters))
        # The teacher turns mid and high round before it filters.
        heard = _powers(teacher)[0]
        axes.plot(frequency, decibel(heard / heard.max()), color=TRUTH, linewidth=3, label="teacher")
        turned = slice(None, None, -1 if index else 1)
        if len(filters) > 1:
            label = f"each of {len(filters)} filters"
            for one in filters:
                axes.plot(frequency, one[turned], color=OWN, linewidth=0.6, alpha=0.6, label=label)
                label = ""
        axes.plot(frequency, own[turned], color=OWN, linewidth=1.6, label="learned")
        thresholds = [
            f"{name} {10 * float(array(own)[index]):.2f} dB (teacher {20 / 19 * given:.2f})"
            for name, own, given in (("rise", stage.rise, RISE), ("fall", stage.fall, FALL))
        ]
        axes.set(title=f"{_NAMES[index]} band\n" + "\n".join(thresholds), xlabel="frequency, kHz", ylim=(-80, 5))
        axes.margins(x=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
        if index == 0:
            axes.set_ylabel("gain, dB")
    return save(figure, picture)


def _powers(taps: Array) -> Array:
    """Return the power response of each filter, from 0 to the edge of the band. Shape: [*, taps] -> [N, 1025]."""
    return np.square(np.abs(np.fft.rfft(taps.reshape(-1, taps.shape[-1]), 2048)))
