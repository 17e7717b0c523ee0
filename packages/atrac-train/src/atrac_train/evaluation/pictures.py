"""The picture of a recording in a report: what it sounds like by each encoder, what is heard of the error, the bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from atrac_bitstream import AeaReader, unpack_units
from atrac_bitstream.tables import BFU_BANDS, FRAME_SAMPLES, N_BANDS, N_BFU_MAX, SAMPLE_RATE, WORD_LENGTHS
from atrac_losses import EarModel, noise_to_mask
from atrac_train.evaluation.results import Bits
from atrac_train.pictures.codec import draw_spectrogram, draw_word_lengths
from atrac_train.pictures.figure import decibel, new_figure, save, say

_AUDIBLE: Final = 20.0
"""dB above and below the mask that colours stand for."""
_LEGENDS: Final = (
    "red: the error stands above\nwhat the original masks",
    "white line: BFUs carried\nred lines: short blocks in a band\ndotted: borders of the bands",
)
_TICKS: Final = (100, 300, 1000, 3000, 10000)
"""Hz."""
_ROW: Final = 2.5
"""Inches."""


@dataclass(frozen=True)
class Version:
    """What became of a recording.

    Args:
        name: of its encoder and decoder.
        sound: without the codec's delay, [C, N].
        bsm, n_bfu, idwl: of its sound units of channel 0, [F, 3], [F], [F, 52].
    """

    name: str
    sound: NDArray[np.float32]
    bsm: NDArray[np.int32]
    n_bfu: NDArray[np.int32]
    idwl: NDArray[np.int32]


def read_version(name: str, sound: NDArray[np.float32], aea: Path, seconds: float) -> Version:
    """Take the beginning of a decoded recording and of its sound units. Raises: AtracError, OSError."""
    samples = min(round(seconds * SAMPLE_RATE), sound.shape[1])
    with AeaReader(aea) as reader:
        units = reader.read()
    # Sound unit f begins 266 samples before sample 512 f of what was decoded: less than a picture shows.
    fields = unpack_units(np.ascontiguousarray(units[: -(-samples // FRAME_SAMPLES), 0]))
    return Version(name, sound[:, :samples], fields.bsm, fields.n_bfu, fields.idwl)


def draw_recording(title: str, original: NDArray[np.float32], versions: Sequence[Version], picture: Path) -> Path:
    """Draw channel 0: a row for the original, and one each for spectrogram, noise against mask, and word lengths.

    Args:
        title: names the recording.
        original: [C, N]; what is longer than the versions is left out.
        versions: one or more.
        picture: PNG file to write.

    Raises: OSError
    """
    samples = min(original.shape[1], *(version.sound.shape[1] for version in versions))
    original = original[0, :samples]
    extent = (0.0, samples / SAMPLE_RATE, 0.0, SAMPLE_RATE / 2000)
    figure = new_figure(f"{title}, channel 0", 0.5 + _ROW * (1 + len(versions)))
    grid = figure.subplots(1 + len(versions), 3, sharex=True)
    levels = draw_spectrogram(grid[0, 0], original, extent, "original")
    for axes, words in zip(grid[0, 1:], _LEGENDS):
        axes.axis("off")
        say(axes, words)
    for row, version in zip(grid[1:], versions):
        draw_spectrogram(row[0], version.sound[0, :samples], extent, version.name)
        ratio = _draw_noise(row[1], version.sound[0, :samples], original, "noise against mask")
        bits = draw_word_lengths(row[2], WORD_LENGTHS[version.idwl], "bits per value, BFUs carried, short blocks")
        _draw_units(row[2], version)
        row[0].set(xlim=extent[:2])
    for axes in grid[-1]:
        axes.set(xlabel="seconds")
    bar: dict[str, Any] = {"location": "bottom", "aspect": 40, "fraction": 0.2 / len(grid), "pad": 0.05 / len(grid)}
    figure.colorbar(levels, ax=grid[:, 0], label="dB of full scale", extend="min", **bar)
    figure.colorbar(ratio, ax=grid[:, 1], label="dB, red is above", extend="both", **bar)
    figure.colorbar(bits, ax=grid[:, 2], label="bits", extend="max", **bar)
    return save(figure, picture)


@torch.no_grad()
def _draw_noise(axes: Any, sound: NDArray[np.float32], original: NDArray[np.float32], title: str) -> Any:
    """Draw by how much the error stands above the mask, over time and bands of the ear; return the image."""
    ear = EarModel()
    measured = noise_to_mask(*(torch.from_numpy(np.ascontiguousarray(x)) for x in (sound, original)), ear=ear)
    ratio = decibel((measured.noise / measured.mask).double().numpy())
    centres = ear.centres.numpy()
    axes.set_yticks(np.interp(_TICKS, centres, np.arange(len(centres))), [f"{tick / 1000:g}" for tick in _TICKS])
    axes.set(title=title, ylabel="kHz")
    return axes.imshow(
        ratio.T, origin="lower", aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-_AUDIBLE, vmax=_AUDIBLE,
        extent=(-0.5 * ear.hop / SAMPLE_RATE, (len(ratio) - 0.5) * ear.hop / SAMPLE_RATE, -0.5, len(centres) - 0.5),
    )  # fmt: skip


def _draw_units(axes: Any, version: Version) -> None:
    """Draw how many BFUs are carried, and which bands have short blocks, over the word lengths."""
    edges = np.arange(len(version.n_bfu) + 1) * FRAME_SAMPLES / SAMPLE_RATE
    axes.stairs(version.n_bfu - 0.5, edges, baseline=None, color="white", linewidth=0.8)
    for band in range(N_BANDS):
        short = edges[:-1][version.bsm[:, band] > 0] + FRAME_SAMPLES / SAMPLE_RATE / 2
        bfus = np.flatnonzero(band == BFU_BANDS)
        axes.vlines(short, bfus[0] - 0.5, bfus[-1] + 0.5, "red", linewidth=0.7)


def draw_bits(bits: Mapping[str, Bits], picture: Path) -> Path:
    """Draw the mean bits per value in each BFU, a line for each encoder. Raises: OSError."""
    figure = new_figure("Bits per value, mean over sound units", 4)
    axes = figure.subplots()
    for name, own in bits.items():
        axes.stairs(own.word_length, np.arange(N_BFU_MAX + 1) - 0.5, baseline=None, linewidth=1.5, label=name)
    for border in np.flatnonzero(np.diff(BFU_BANDS)):
        axes.axvline(border + 0.5, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(xlabel="BFU, low | mid | high", ylabel="bits", xlim=(-0.5, N_BFU_MAX - 0.5), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, picture)
