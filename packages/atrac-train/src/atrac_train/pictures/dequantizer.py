"""Dequantizer: the value of each step; with a correction, how much nearer it comes to the spectrum of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from atrac_bitstream.tables import FRAME_SAMPLES, IDSF_MAX, IDWL_MAX, LEVELS, SCALE_FACTORS, WORD_LENGTHS
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import ERROR, OWN, TRUTH, Array, array, decibel, new_figure, save, say

if TYPE_CHECKING:
    from atrac_train.objectives.dequantizer import DequantizerObjective

_DRAWN: Final = (1, 2, 3)
"""Word length indices whose values are drawn: 2, 3 and 4 bits."""
_CORRECTED: Final = (0, 1, 2, 3, 5, 7)
"""Word length indices whose corrections are drawn."""
_STRETCH: Final = 64
"""Coefficients that are drawn one by one."""


@torch.no_grad()
def draw_dequantizer(objective: DequantizerObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw learned values; with a correction, also what it does. Raises: OSError."""
    parts = [_answers(objective, example) for example in examples]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    pictures = [_draw_tables(objective, values, folder / "values.png")]
    if objective.stage.correction is not None:
        pictures.append(_draw_spectrum(values, folder / "spectrum.png"))
        pictures.append(_draw_correction(values, folder / "correction.png"))
    return pictures


def _answers(objective: DequantizerObjective, example: Tensors) -> dict[str, Array]:
    """Return by name what each value was, became, and by what. Shape: [N, 512]."""
    idsf, idwl, bsm = (example[name] for name in ("idsf", "idwl", "bsm"))
    own, step = objective.stage(example["quantized"], idsf, idwl, bsm), objective.stage.step(idsf, idwl, bsm)
    true = objective.teacher(torch.ones_like(example["quantized"]), idsf, idwl, bsm)
    tensors = {name: example[name] for name in ("spectrum", "dec_spectrum", "quantized", "carried")}
    tensors |= {"own": own, "own step": step, "step": true, "index": objective.layout.expand(idwl, bsm)}
    return {name: array(tensor).reshape(-1, FRAME_SAMPLES) for name, tensor in tensors.items()}


# Tables -------------------------------------------------------------------------------------------------------


def _draw_tables(objective: DequantizerObjective, values: dict[str, Array], picture: Path) -> Path:
    stage = objective.stage
    figure = new_figure("Dequantizer: learned values and those of the standard", 9)
    grid = figure.add_gridspec(2, 6)
    steps = array(stage.steps * stage.scale)
    factor_error = array(stage.levels) - np.log2(SCALE_FACTORS)
    step_error = np.log2(np.abs(steps[1:]) / LEVELS[1:])
    # A factor common to all scale factors and all steps cancels; it is taken off both.
    common = factor_error.mean()
    factor_error, step_error, steps = factor_error - common, step_error - common, steps / 2**common
    for column, index in enumerate(_DRAWN):
        axes = figure.add_subplot(grid[0, 2 * column : 2 * column + 2])
        quantized = np.arange(-LEVELS[index], LEVELS[index] + 1)
        axes.plot(quantized, quantized / LEVELS[index], "o", color=TRUTH, markersize=11, label="standard")
        axes.plot(quantized, quantized / steps[index], "x", color=OWN, markersize=7, label="learned")
        if stage.correction is not None:
            _draw_spread(axes, index, values)
        axes.set(title=f"{WORD_LENGTHS[index]} bits", xlabel="quantized value", ylabel="value / scale factor")
        axes.set_xticks(quantized if len(quantized) < 9 else quantized[::2])
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    factors, lengths = figure.add_subplot(grid[1, :3]), figure.add_subplot(grid[1, 3:])
    factors.plot(np.arange(IDSF_MAX + 1), factor_error, ".-", color=ERROR)
    factors.set(title="scale factors: learned - standard", xlabel="scale factor index", ylabel="difference of log2")
    lengths.plot(range(1, IDWL_MAX + 1), step_error, ".-", color=ERROR)
    lengths.set_xticks(range(1, IDWL_MAX + 1), [str(bits) for bits in WORD_LENGTHS[1:]])
    lengths.set(title="steps: learned - standard", xlabel="word length, bits", ylabel="difference of log2")
    for axes in (factors, lengths):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.grid(alpha=0.3)
    return save(figure, picture)


def _draw_spread(axes: Any, index: int, values: dict[str, Array]) -> None:
    """Draw between which values the corrected ones lie for each quantized one."""
    chosen = (values["index"] == index) & (values["carried"] > 0)
    quantized = values["quantized"][chosen]
    corrected = values["own"][chosen] / values["step"][chosen] / LEVELS[index]
    label = "corrected, 5 to 95 %"
    for one in np.unique(quantized):
        low, middle, high = np.quantile(corrected[quantized == one], [0.05, 0.5, 0.95])
        spread = [[middle - low], [high - middle]]
        axes.errorbar([one], [middle], spread, color=ERROR, marker="_", capsize=3, label=label)
        label = ""


# Correction ---------------------------------------------------------------------------------------------------


def _draw_spectrum(values: dict[str, Array], picture: Path) -> Path:
    """Draw the most coarsely quantized frame as a whole, and a stretch in units of the step."""
    figure = new_figure("Dequantizer with correction: the frame that has most values of 2 to 4 bits", 10)
    whole, stretch = figure.subplots(2, 1)
    coarse = (values["index"] > 0) & (values["index"] <= _DRAWN[-1])
    frame = int(coarse.sum(-1).argmax())
    own = {name: field[frame] for name, field in values.items()}
    start = int(np.convolve(coarse[frame], np.ones(_STRETCH), "valid").argmax())
    places = np.arange(start, start + _STRETCH)
    looks: dict[str, dict[str, Any]] = {
        "spectrum": {"label": "original", "color": TRUTH, "linewidth": 2},
        "dec_spectrum": {"label": "standard", "color": ERROR, "linestyle": ""},
        "own": {"label": "own", "color": OWN, "linestyle": ""},
    }
    for name, dot, mark, size in (("spectrum", "", "", 0), ("dec_spectrum", "o", "_", 13), ("own", ".", "x", 7)):
        shown = np.where(own[name] != 0, decibel(np.square(own[name])), np.nan)
        whole.plot(shown, marker=dot, markersize=4, **looks[name])
        shown = np.where(coarse[frame], own[name] / own["step"], np.nan)
        stretch.plot(places, shown[places], marker=mark, markersize=size, markeredgewidth=2, **looks[name])
    top = 10 * np.ceil(decibel(np.square(own["spectrum"]).max()) / 10)
    whole.set(title="level; values of 0 left out", xlabel="index in the spectrum", ylabel="dB (1 = 0)")
    whole.set_ylim(top - 100, top + 15)
    whole.set_xlim(0, FRAME_SAMPLES)
    stretch.set(
        title=f"{_STRETCH} coefficients, those of 2 to 4 bits", xlabel="index in the spectrum", ylabel="value, steps"
    )
    stretch.set_xlim(start - 1, start + _STRETCH)
    if not coarse.any():
        say(stretch, "no values of 2 to 4 bits")
    for axes in (whole, stretch):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right", ncols=3)
    return save(figure, picture)


def _draw_correction(values: dict[str, Array], picture: Path) -> Path:
    """Draw what the correction gains and how large it is, by word length."""
    figure = new_figure("Dequantizer with correction: by word length", 9)
    gains, sizes = figure.subplots(2, 1)
    carried = values["carried"] > 0
    index, step = values["index"][carried].astype(int), values["step"][carried]
    sums = {}
    for name in ("own", "dec_spectrum"):
        error = np.square(values[name] - values["spectrum"])[carried]
        sums[name] = [np.bincount(index, x, minlength=IDWL_MAX + 1) for x in (error, error / np.square(step))]
    for shift, place, label, colour in ((-0.2, 0, "of values", OWN), (0.2, 1, "in steps", TRUTH)):
        own, standard = sums["own"][place], sums["dec_spectrum"][place]
        known = (own > 0) & (standard > 0)
        gain = np.where(known, decibel(standard / np.where(known, own, 1)), 0)
        gains.bar(np.arange(IDWL_MAX + 1) + shift, gain, 0.4, label=f"mean squared error {label}", color=colour)
    counts = np.bincount(index, minlength=IDWL_MAX + 1)
    names = [f"{bits}\n{count:,}" for bits, count in zip(WORD_LENGTHS, counts, strict=True)]
    gains.set_xticks(range(IDWL_MAX + 1), names, fontsize=8)
    gains.axhline(0, color="black", linewidth=0.8)
    gains.set(title="gain over the standard", xlabel="word length, bits; number of values", ylabel="gain, dB")
    low, high = gains.get_ylim()
    gains.set_ylim(low, high + max(0.25 * (high - low), 0.1))
    correction = (values["own"] / values["own step"] - values["quantized"])[carried]
    edges = np.linspace(-0.5, 0.5, 101)
    for drawn in _CORRECTED:
        chosen = correction[index == drawn]
        if len(chosen):
            density, _ = np.histogram(np.clip(chosen, -0.5, 0.5), edges)
            sizes.stairs(100 * density / len(chosen), edges, label=f"{WORD_LENGTHS[drawn]} bits", linewidth=1.5)
    if not len(correction):
        say(sizes, "no values")
    sizes.set(title="correction", xlabel="correction, steps", ylabel="values in 0.01 steps, %", yscale="log")
    for axes in (gains, sizes):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right")
    return save(figure, picture)
