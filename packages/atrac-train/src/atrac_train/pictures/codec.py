"""A run before and after a training: what it sounds like, what was lost, and the bits that each BFU got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import soundfile
import torch
from torch import Tensor

from atrac_bitstream.tables import BFU_BANDS, FRAME_SAMPLES, N_BFU_MAX, SAMPLE_RATE, WORD_LENGTHS
from atrac_codec import NNFullCodec
from atrac_losses import nmr, snr
from atrac_modules import FrameBatch
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import Array, array, new_figure, save

if TYPE_CHECKING:
    from atrac_train.objectives.codec import CodecFolderObjective

_LEVELS: Final = (-110.0, 0.0)
"""dB of full scale that colours stand for."""
_FFT, _HOP = 1024, 256
_HIGHEST: Final = 9
"""Bits per value from which on colours are the same."""


@torch.no_grad()
def draw_codec_runs(objective: CodecFolderObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw some runs before and after the training, and write what they sound like. Raises: OSError."""
    before = NNFullCodec.from_pretrained(objective.start, objective.decoder).to(examples[0]["pcm"].device)
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples):
        wave = example["pcm"].flatten(-2)
        sounds, batches = {"original": wave[0]}, {}
        for name, codec in (("before", before), ("after", objective.codec)):
            decoded, batches[name] = codec(wave, return_batch=True)
            sounds[name] = decoded[0]
        for name, sound in sounds.items():
            made.append(folder / f"run{number}.{name}.wav")
            soundfile.write(made[-1], sound.T.cpu().numpy(), SAMPLE_RATE, "FLOAT")
        made.append(draw_codec(sounds, batches, folder / f"run{number}.png"))
    return made


def draw_codec(sounds: Mapping[str, Tensor], batches: Mapping[str, FrameBatch], path: Path) -> Path:
    """Draw the first channel of a run: a column for each sound, its spectrogram, its error, its word lengths.

    Args:
        sounds: `original`, which has the first column, and others, each [C, N].
        batches: what the others were decoded from, each [1, C, F, …].
        path: the PNG file to write.

    Raises: OSError
    """
    original = sounds["original"][0]
    figure = new_figure(f"{path.stem}: original and decoded", 11)
    grid = figure.subplots(3, len(sounds), sharex=True)
    extent = (0.0, len(original) / SAMPLE_RATE, 0.0, SAMPLE_RATE / 2000)
    for column, (name, sound) in enumerate(sounds.items()):
        image = draw_spectrogram(grid[0, column], array(sound[0]), extent, name)
        if name == "original":
            for axes in grid[1:, column]:
                axes.axis("off")
            continue
        error = sound[0] - original
        said = f"SNR {snr(sound[0], original):.1f} dB, NMR {nmr(sound[0], original):.1f} dB"
        draw_spectrogram(grid[1, column], array(error), extent, f"error {name}\n{said}")
        words = WORD_LENGTHS[array(batches[name].idwl[0, 0]).astype(int)]
        bits = draw_word_lengths(grid[2, column], words, f"bits per value {name}")
        grid[2, column].set(xlabel="seconds", xlim=extent[:2])
    figure.colorbar(image, ax=grid[:2], label="dB of full scale", extend="min")
    figure.colorbar(bits, ax=grid[2], label="bits", extend="max")
    return save(figure, path)


def draw_spectrogram(axes: Any, sound: Array, extent: tuple[float, ...], title: str) -> Any:
    """Draw the spectrogram of a sound [N] into `extent`, seconds and kHz; return its image."""
    axes.set(title=title, ylabel="kHz")
    return axes.imshow(
        spectrogram(sound), origin="lower", aspect="auto", extent=extent, vmin=_LEVELS[0], vmax=_LEVELS[1], cmap="magma"
    )


def spectrogram(sound: Array) -> Array:
    """Return levels in dB of full scale, frequency by time. Shape: [N] -> [513, M]."""
    samples = np.pad(sound, (0, max(0, _FFT - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FFT)[::_HOP] * np.hanning(_FFT)
    levels: Array = 20 * np.log10(np.abs(np.fft.rfft(frames)).T * 4 / _FFT + 1e-9)
    return levels


def draw_word_lengths(axes: Any, words: Array, title: str) -> Any:
    """Draw the bits per value over time, words [F, 52], with the borders of the bands; return the image."""
    for border in np.flatnonzero(np.diff(BFU_BANDS)):
        axes.axhline(border + 0.5, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(title=title, ylabel="BFU")
    return axes.imshow(
        words.T, origin="lower", aspect="auto", interpolation="nearest", cmap="viridis", vmin=0, vmax=_HIGHEST,
        extent=(0.0, len(words) * FRAME_SAMPLES / SAMPLE_RATE, -0.5, N_BFU_MAX - 0.5),
    )  # fmt: skip
