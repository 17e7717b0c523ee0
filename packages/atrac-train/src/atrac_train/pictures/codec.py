"""A recording and what codecs make of it: spectrograms, noise against the mask, and the bits that each BFU got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import soundfile
import torch

from atrac_bitstream.tables import BFU_BANDS, FRAME_SAMPLES, N_BFU_MAX, SAMPLE_RATE, WORD_LENGTHS
from atrac_codec import NNFullCodec
from atrac_losses import EarModel, noise_to_mask
from atrac_train.objective import Tensors
from atrac_train.pictures.figure import Array, array, decibel, new_figure, save

if TYPE_CHECKING:
    from atrac_train.objectives.codec import CodecFolderObjective

_LEVELS: Final = (-110.0, 0.0)
"""Range of the colours of a spectrogram, dB of full scale."""
_AUDIBLE: Final = 20.0
"""Range of the colours of noise against the mask, dB above and below it."""
_BITS: Final = 9
"""Bits per value from which on the colours of word lengths are the same."""
_FFT, _HOP = 1024, 256
_TICKS: Final = (100, 300, 1000, 3000, 10000)
"""Hz."""
_ROW: Final = 2.5
"""Height of a row of diagrams, inches."""


@torch.no_grad()
def draw_codec_runs(objective: CodecFolderObjective, examples: Sequence[Tensors], folder: Path) -> list[Path]:
    """Draw some runs before and after the training, and write what they sound like. Raises: OSError."""
    before = NNFullCodec.from_pretrained(objective.start, objective.decoder).to(examples[0]["pcm"].device)
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples):
        wave = example["pcm"].flatten(-2)
        sounds, idwl = {"original": wave[0]}, {}
        for name, codec in (("before", before), ("after", objective.codec)):
            decoded, batch = codec(wave, return_batch=True)
            sounds[name], idwl[name] = decoded[0], array(batch.idwl[0, 0]).astype(int)
        for name, sound in sounds.items():
            made.append(folder / f"run{number}.{name}.wav")
            soundfile.write(made[-1], sound.T.cpu().numpy(), SAMPLE_RATE, "FLOAT")
        first_channels = {name: array(sound[0]) for name, sound in sounds.items()}
        made.append(draw_recording(f"run {number}", first_channels, idwl, folder / f"run{number}.png"))
    return made


def draw_recording(title: str, sounds: Mapping[str, Array], idwl: Mapping[str, Array], picture: Path) -> Path:
    """Draw the spectrogram of each sound and, of each but the original, noise against the mask and word lengths.

    Args:
        title: stands above.
        sounds: name to samples [N] of one channel; the original comes first.
        idwl: name of each other sound to the word length indices that it was decoded from, [F, 52].
        picture: PNG file to write.

    Raises: OSError
    """
    original, *decoded = sounds
    extent = (0.0, len(sounds[original]) / SAMPLE_RATE, 0.0, SAMPLE_RATE / 2000)
    figure = new_figure(title, 0.5 + _ROW * len(sounds))
    grid = figure.subplots(len(sounds), 3, sharex=True, squeeze=False)
    for axes in grid[0, 1:]:
        axes.axis("off")
    for row, (name, sound) in zip(grid, sounds.items()):
        levels = row[0].imshow(
            spectrogram(sound), origin="lower", aspect="auto", extent=extent, vmin=_LEVELS[0], vmax=_LEVELS[1],
            cmap="magma",
        )  # fmt: skip
        row[0].set(title=name, ylabel="kHz", xlim=extent[:2])
    for axes in grid[-1]:
        axes.set(xlabel="seconds")
    bar: dict[str, Any] = {"location": "bottom", "aspect": 40, "fraction": 0.2 / len(grid), "pad": 0.05 / len(grid)}
    figure.colorbar(levels, ax=grid[:, 0], label="dB of full scale", extend="min", **bar)
    for row, name in zip(grid[1:], decoded):
        noise = _draw_noise(row[1], sounds[name], sounds[original])
        bits = _draw_word_lengths(row[2], WORD_LENGTHS[idwl[name]])
    if decoded:
        figure.colorbar(noise, ax=grid[:, 1], label="dB above the mask: red is audible", extend="both", **bar)
        figure.colorbar(bits, ax=grid[:, 2], label="bits", extend="max", **bar)
    return save(figure, picture)


def spectrogram(sound: Array) -> Array:
    """Return levels in dB of full scale, frequency by time. Shape: [N] -> [513, M]."""
    samples = np.pad(sound, (0, max(0, _FFT - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FFT)[::_HOP] * np.hanning(_FFT)
    levels: Array = 20 * np.log10(np.abs(np.fft.rfft(frames)).T * 4 / _FFT + 1e-9)
    return levels


@torch.no_grad()
def _draw_noise(axes: Any, sound: Array, original: Array) -> Any:
    """Draw by how much the error exceeds the masking threshold, over time and bands of the ear; return the image."""
    ear = EarModel()
    measured = noise_to_mask(*(torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (sound, original)))
    ratio = decibel((measured.noise / measured.mask).double().numpy())
    centres = ear.centres.numpy()
    axes.set_yticks(np.interp(_TICKS, centres, np.arange(len(centres))), [f"{tick / 1000:g}" for tick in _TICKS])
    axes.set(title="noise against mask", ylabel="kHz")
    return axes.imshow(
        ratio.T, origin="lower", aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-_AUDIBLE, vmax=_AUDIBLE,
        extent=(-0.5 * ear.hop / SAMPLE_RATE, (len(ratio) - 0.5) * ear.hop / SAMPLE_RATE, -0.5, len(centres) - 0.5),
    )  # fmt: skip


def _draw_word_lengths(axes: Any, words: Array) -> Any:
    """Draw the bits per value over time, words [F, 52], with the borders of the bands; return the image."""
    for border in np.flatnonzero(np.diff(BFU_BANDS)):
        axes.axhline(border + 0.5, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(title="bits per value", ylabel="BFU")
    return axes.imshow(
        words.T, origin="lower", aspect="auto", interpolation="nearest", cmap="viridis", vmin=0, vmax=_BITS,
        extent=(0.0, len(words) * FRAME_SAMPLES / SAMPLE_RATE, -0.5, N_BFU_MAX - 0.5),
    )  # fmt: skip
