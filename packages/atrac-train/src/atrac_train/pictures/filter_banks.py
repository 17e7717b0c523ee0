"""Filter banks and lapped transforms: levels of the teacher's answer and of the error below it, over frequency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib.ticker import MultipleLocator

from atrac_bitstream.tables import BANDS, FRAME_SAMPLES, SAMPLE_RATE
from atrac_modules import Iqmf, Mdct
from atrac_train.objective import Objective, Tensors
from atrac_train.pictures.figure import ERROR, TRUTH, Array, array, decibel, new_figure, save, say, snr

_SOURCES: Final = {"recordings": "", "white noise": "noise_"}
"""Name to the prefix of the fields of an example."""
_BAND_EDGES: Final = tuple(share * SAMPLE_RATE / 4000 for share in (0, 0.5, 1, 2))
"""kHz."""


@torch.no_grad()
def draw_filter_bank(objective: Objective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw a row for each source; spectra have a column for long blocks and one for short ones. Raises: OSError."""
    stage: Any = objective.stage
    kinds = ("long", "short") if isinstance(stage, Mdct) else ("",)
    figure = new_figure(f"{type(stage).__name__}: teacher, and error of the prediction", 3.5 * len(_SOURCES))
    grid = figure.subplots(len(_SOURCES), len(kinds), squeeze=False)
    for row, (source, prefix) in zip(grid, _SOURCES.items(), strict=True):
        parts = [_answers(stage, example, prefix) for example in examples if f"{prefix}target" in example]
        truth, own, short = (np.concatenate(part) for part in zip(*parts, strict=True))
        for axes, kind in zip(row, kinds, strict=True):
            counted = np.broadcast_to(short == (kind == "short"), truth.shape) if kind else np.ones(truth.shape, bool)
            _draw_levels(axes, stage, truth, own - truth, counted)
            energies = (float((np.square(x) * counted).sum()) for x in (truth, own - truth))
            axes.set_title(f"{source}{f', {kind} blocks' * bool(kind)}: {snr(*energies)}")
            if not counted.any():
                say(axes, f"no {kind} blocks")
    return [save(figure, folder / "levels.png")]


def _answers(stage: Any, example: Tensors, prefix: str) -> tuple[Array, Array, Array]:
    """Return the teacher's answer, the stage's, and where blocks are short, but for the first frame. Shape: [N, 512]"""
    inputs = [example[key] for key in sorted(example) if key.startswith(f"{prefix}input")]
    truth, own = (array(x) for x in (example[f"{prefix}target"], stage(*inputs)))
    truth, own = (x.reshape(len(x), -1, FRAME_SAMPLES)[:, 1:].reshape(-1, FRAME_SAMPLES) for x in (truth, own))
    if len(inputs) == 1:
        return truth, own, np.zeros(truth.shape, bool)
    short = array(inputs[1])[:, 1:].reshape(-1, 3) > 0
    return truth, own, np.repeat(short, [band.stop - band.start for band in BANDS], axis=-1)


def _draw_levels(axes: Any, stage: Any, truth: Array, error: Array, counted: Array) -> None:
    for values, colour, label in ((truth, TRUTH, "teacher"), (error, ERROR, "prediction - teacher")):
        if isinstance(stage, Mdct):
            power = (np.square(values) * counted).sum(0) / np.maximum(counted.sum(0), 1)
            axes.plot(np.where(counted.any(0), decibel(power), np.nan), color=colour, label=label)
            continue
        parts = [slice(0, FRAME_SAMPLES)] if isinstance(stage, Iqmf) else BANDS
        edges = (0, _BAND_EDGES[-1]) if isinstance(stage, Iqmf) else _BAND_EDGES
        for place, (part, low, high) in enumerate(zip(parts, edges[:-1], edges[1:], strict=True)):
            level = decibel(_spectrum(values[:, part]))
            mirrored = slice(None, None, -1 if place else 1)  # frequencies run downwards in the mid and high band
            axes.plot(np.linspace(low, high, len(level)), level[mirrored], color=colour, label=label)
            label = ""
    axes.set(xlabel="index in the spectrum" if isinstance(stage, Mdct) else "frequency, kHz", ylabel="dB")
    axes.yaxis.set_major_locator(MultipleLocator(40))
    axes.margins(x=0)
    axes.grid(alpha=0.4)
    axes.legend(loc="center right")


def _spectrum(frames: Array) -> Array:
    """Return the mean power of Hann windowed frames, 1 for a sine of amplitude 1. Shape: [N, n] -> [n / 2 + 1]"""
    window = np.hanning(frames.shape[1] + 1)[:-1]
    power: Array = np.square(np.abs(np.fft.rfft(frames * window)) * 2 / window.sum()).mean(0)
    return power
