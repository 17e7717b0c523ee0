"""Filter banks and lapped transforms: signals on a stretch with energy, and how far the error lies below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib.ticker import MultipleLocator

from atrac_bitstream.tables import BANDS, FRAME_SAMPLES, SAMPLE_RATE
from atrac_modules import Imdct, Iqmf, Mdct, Qmf
from atrac_train.objective import Objective, Tensors
from atrac_train.pictures.figure import ERROR, OWN, TRUTH, Array, array, decibel, new_figure, save, say, snr

_EDGES: Final = tuple(edge / 4000 * SAMPLE_RATE for edge in (0, 0.5, 1, 2))
"""Edges of the bands, kHz."""
_ROLES: Final = ((Qmf, "QMF"), (Mdct, "MDCT"), (Imdct, "inverse MDCT"), (Iqmf, "inverse QMF"))

_STRETCH: Final = 64
"""Samples or coefficients that are drawn one by one."""


@dataclass(frozen=True)
class _Source:
    """Where sound comes from, with one array for each run: what the teacher and the stage answer, [C, F, 512]."""

    name: str
    truth: list[Array]
    own: list[Array]
    short: list[Array]
    """For each value, whether the teacher was told to take short blocks; empty without modes."""

    @property
    def energy(self) -> float:
        """Energy of all answers of the teacher."""
        return float(sum(np.square(truth).sum() for truth in self.truth))


@dataclass(frozen=True)
class _Part:
    """A band, or all of them, within a frame."""

    name: str
    values: slice
    low: float
    """kHz."""
    high: float
    mirrored: bool
    """Whether its frequencies run downwards."""

    @property
    def size(self) -> int:
        """Values of a frame."""
        return int(self.values.stop - self.values.start)


def draw_filter_bank(objective: Objective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw what the stage answers beside the teacher's answer, and levels of both and of the error. Raises: OSError."""
    sources = [_source(objective, examples, *one) for one in (("recordings", ""), ("white noise", "noise_"))]
    role = next((name for kind, name in _ROLES if isinstance(objective.stage, kind)), "filter bank")
    title = f"{role}: truth and prediction"
    if isinstance(objective.stage, Mdct):
        return [_draw_spectra(title, sources, folder / "spectra.png")]
    if isinstance(objective.stage, Iqmf):
        parts = [_Part("waveform", slice(0, FRAME_SAMPLES), _EDGES[0], _EDGES[-1], False)]
        return [_draw_signals(title, sources, parts, folder / "waveform.png")]
    parts = [
        _Part(f"{name} band", values, low, high, name != "low")
        for name, values, low, high in zip(("low", "mid", "high"), BANDS, _EDGES[:-1], _EDGES[1:], strict=True)
    ]
    return [_draw_signals(title, sources, parts, folder / "bands.png")]


@torch.no_grad()
def _source(objective: Objective, examples: Sequence[Tensors], name: str, prefix: str) -> _Source:
    """Ask the stage; leave out the first frame, whose past is missing, if there are others."""
    stage: Any = objective.stage
    source = _Source(name, [], [], [])
    for example in examples:
        if f"{prefix}target" not in example:
            continue
        inputs = [example[key] for key in sorted(example) if key.startswith(f"{prefix}input")]
        for answer, values in ((example[f"{prefix}target"], source.truth), (stage(*inputs), source.own)):
            frames = array(answer)
            frames = frames.reshape(len(frames), -1, FRAME_SAMPLES)
            values.append(frames[:, min(1, frames.shape[1] - 1) :])
        if len(inputs) > 1:
            short = array(inputs[1])[:, -source.truth[-1].shape[1] :] > 0
            source.short.append(np.repeat(short, [band.stop - band.start for band in BANDS], axis=-1))
    return source


# Signals over time --------------------------------------------------------------------------------------------


def _draw_signals(title: str, sources: Sequence[_Source], parts: Sequence[_Part], picture: Path) -> Path:
    """Draw a stretch of each part, and below it power spectra of truth and error, for each source."""
    figure = new_figure(title, 4 + 3.2 * len(sources))
    grid = figure.subplots(1 + len(sources), len(parts), squeeze=False)
    shown = sources[0] if sources[0].energy else sources[-1]
    for part, (top, *below) in zip(parts, grid.T, strict=True):
        _draw_stretch(top, shown, part)
        for axes, source in zip(below, sources, strict=True):
            _draw_levels(axes, source, part)
    return save(figure, picture)


def _draw_stretch(axes: Any, source: _Source, part: _Part) -> None:
    size = _STRETCH if part.size < FRAME_SAMPLES else 4 * _STRETCH
    best: tuple[float, int, int, int] = (-1.0, 0, 0, 0)
    for run, truth in enumerate(source.truth):
        signal = truth[..., part.values].reshape(len(truth), -1)
        blocks = signal[:, : signal.shape[1] // size * size].reshape(len(truth), -1, size)
        energy = np.square(blocks).sum(-1)
        channel, block = np.unravel_index(energy.argmax(), energy.shape)
        best = max(best, (float(energy.max()), run, int(channel), int(block)))
    _, run, channel, block = best
    own = slice(block * size, (block + 1) * size)
    truth, predicted = (x[run][channel][..., part.values].reshape(-1)[own] for x in (source.truth, source.own))
    _draw_both(axes, range(size), truth, predicted)
    axes.set(title=f"{part.name}, loudest stretch ({source.name})", xlabel="sample of the stretch", ylabel="amplitude")


def _draw_both(axes: Any, places: range, truth: Array, own: Array) -> None:
    axes.plot(places, truth, color=TRUTH, linewidth=3.5, label="truth")
    axes.plot(places, own, color=OWN, linewidth=1.4, linestyle="--", label="prediction")
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))
    axes.legend(loc="upper right", ncols=2)


def _draw_levels(axes: Any, source: _Source, part: _Part) -> None:
    """Draw mean power spectra over frequency as it is heard."""
    truth = [x[..., part.values].reshape(len(x), -1) for x in source.truth]
    error = [x[..., part.values].reshape(len(x), -1) - t for x, t in zip(source.own, truth, strict=True)]
    window = 2 * part.size
    frequency = np.linspace(part.low, part.high, window // 2 + 1)
    for signals, look in ((truth, _LOOKS["truth"]), (error, _LOOKS["error"])):
        level = decibel(power_spectrum(signals, window))
        axes.plot(frequency, level[::-1] if part.mirrored else level, **look)
    energies = (float(sum(np.square(x).sum() for x in signals)) for signals in (truth, error))
    _finish_levels(axes, f"{part.name}, {source.name}: {snr(*energies)}")
    axes.set(xlabel="frequency, kHz", ylabel="level, dB (sine of amplitude 1 = 0)")


def power_spectrum(signals: Sequence[Array], size: int) -> Array:
    """Return the mean power of Hann windowed stretches, 1 for a sine of amplitude 1. Shape: [C, T] -> [size / 2 + 1]"""
    window = np.hanning(size + 1)[:-1]
    powers = []
    for signal in signals:
        padded = np.pad(signal, ((0, 0), (0, max(size - signal.shape[1], 0))))
        blocks = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[:, :: size // 2]
        powers.append(np.square(np.abs(np.fft.rfft(blocks * window)) * 2 / window.sum()).reshape(-1, size // 2 + 1))
    return np.asarray(np.concatenate(powers).mean(0))


# Spectra ------------------------------------------------------------------------------------------------------


def _draw_spectra(title: str, sources: Sequence[_Source], picture: Path) -> Path:
    """Draw a frame of long blocks and one of short ones, and below the levels of each coefficient."""
    figure = new_figure(title, 4 + 3.2 * len(sources))
    grid = figure.subplots(1 + len(sources), 2, squeeze=False)
    for kind, (top, *below) in zip(("long", "short"), grid.T, strict=True):
        _draw_some(top, sources, kind)
        for axes, source in zip(below, sources, strict=True):
            _draw_coefficients(axes, source, kind)
        for axes in (top, *below):
            axes.set_xlabel("index in the spectrum" + ("" if kind == "long" else ", block after block in each band"))
    return save(figure, picture)


def _draw_some(axes: Any, sources: Sequence[_Source], kind: str) -> None:
    """Draw the stretch of a frame that has most energy among those of blocks of this kind."""
    for source in sources:
        best, found = 0.0, None
        for truth, own, short in zip(source.truth, source.own, source.short, strict=True):
            cut, predicted, chosen = (x.reshape(*x.shape[:-1], -1, _STRETCH) for x in (truth, own, short))
            energy = np.square(cut).sum(-1) * (chosen == (kind == "short")).all(-1)
            place = np.unravel_index(energy.argmax(), energy.shape)
            if energy[place] > best:
                best, found = energy[place], (int(place[-1]), cut[place], predicted[place])
        if found:
            start, truth, own = found
            _draw_both(axes, range(start * _STRETCH, (start + 1) * _STRETCH), truth, own)
            axes.set(title=f"{kind} blocks, loudest {_STRETCH} coefficients ({source.name})", ylabel="coefficient")
            return
    axes.set_title(f"no {kind} blocks")


def _draw_coefficients(axes: Any, source: _Source, kind: str) -> None:
    """Draw root mean squares over the frames whose band has blocks of this kind."""
    energy, error, counted = (np.zeros(FRAME_SAMPLES) for _ in range(3))
    for truth, own, short in zip(source.truth, source.own, source.short, strict=True):
        chosen = short == (kind == "short")
        energy += (np.square(truth) * chosen).sum((0, 1))
        error += (np.square(own - truth) * chosen).sum((0, 1))
        counted += chosen.sum((0, 1))
    if not counted.any():
        say(axes, f"no {kind} blocks")
    for band in BANDS[1:]:
        axes.axvline(band.start, color="0.75", linewidth=1, zorder=0)
    for sums, look in ((energy, _LOOKS["truth"]), (error, _LOOKS["error"])):
        axes.plot(np.where(counted > 0, decibel(sums / np.maximum(counted, 1)), np.nan), **look)
    said = snr(float(energy.sum()), float(error.sum())) if counted.any() else "none"
    _finish_levels(axes, f"{kind} blocks, {source.name}: {said}")
    axes.set_ylabel("mean square, dB")
    axes.set_xlim(0, FRAME_SAMPLES)


_LOOKS: Final[dict[str, dict[str, Any]]] = {
    "truth": {"color": TRUTH, "linewidth": 1.5, "label": "truth"},
    "error": {"color": ERROR, "linewidth": 1, "label": "prediction - truth"},
}


def _finish_levels(axes: Any, title: str) -> None:
    """Let 20 dB be read off wherever it is, with room for the legend."""
    axes.set_title(title)
    axes.yaxis.set_major_locator(MultipleLocator(20))
    axes.grid(alpha=0.4)
    axes.margins(x=0)
    low, high = axes.get_ylim()
    high = 20 * np.ceil(high / 20) + 20
    axes.set_ylim(min(20 * np.floor(low / 20), high - 80), high)
    axes.legend(loc="upper right", ncols=2)
