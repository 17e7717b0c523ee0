"""The built-in corpus: synthetic sounds, so that everything works without a download.

A sound is fixed by its name, length, seed and number of channels. The generator is PCG64 under a seed hashed
from name and seed, so no sound depends on another, on the session, or on Python's own hash.
"""

import hashlib
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import AudioWriter
from atrac_data.manifest import Manifest, Recording
from atrac_data.synthesis.attacks import render_attacks
from atrac_data.synthesis.effects import render_effects
from atrac_data.synthesis.mixing import Sound, fade, seconds_to_samples, to_peak, to_rms
from atrac_data.synthesis.music import render_music
from atrac_data.synthesis.noise import render_noise, render_pink_noise
from atrac_data.synthesis.speech import render_speech


@dataclass(frozen=True)
class _Recipe:
    """How one sound is made and finished: its source, the scaling to a level in dBFS, its fades in s."""

    source: Callable[[int, np.random.Generator], Sound]
    scale: Callable[[Sound, float], Sound]
    level: float
    fade_in: float = 0.0
    fade_out: float = 0.0


_RECIPES = {
    "music": _Recipe(render_music, to_peak, -1.0, fade_in=0.005, fade_out=0.4),
    "speech": _Recipe(render_speech, to_peak, -3.0, fade_in=0.01, fade_out=0.05),
    "effects": _Recipe(render_effects, to_peak, -2.0),
    "noise": _Recipe(render_noise, to_rms, -20.0),
    "pink_noise": _Recipe(render_pink_noise, to_rms, -20.0),
    "attacks": _Recipe(render_attacks, to_peak, -1.0),
}

NAMES: Final = tuple(_RECIPES)
"""Every sound `render` knows."""
SEEDS: Final = MappingProxyType({"train": range(8), "validation": range(8, 9), "test": range(9, 10)})
"""The seeds of each split, unless others are asked for."""


def render(name: str, *, seconds: float = 10.0, seed: int = 0, channels: int = 2) -> NDArray[np.float32]:
    """Make one sound of the corpus.

    The same arguments give the same bytes, on one machine and with one version of NumPy. Two channels are
    left and right; one channel is their mean, brought to the same level.

    Args:
        name: one of `NAMES`.
        seconds: length, above 0; rounded to whole samples. The music is composed to fit it, so a longer piece
            does not begin with a shorter one.
        seed: any whole number; another one gives another piece, speaker, order or noise.
        channels: 1 or 2.

    Shape:    -> [channels, T], T = round(44100 * seconds)
    Dtype:    float32, rounded once at the end.
    Units:    full scale +-1.0. Peak: music and attacks -1 dBFS, effects -2, speech -3. Root mean square:
              noise and pink_noise -20 dBFS.
    Raises:   ValueError for an unknown name, for a length that is not finite or below one sample, and for
              channels other than 1 and 2; TypeError for a seed that is not whole.
    Example:
        >>> render("speech", seconds=0.5, seed=3).shape
        (2, 22050)
    """
    recipe = _find(name)
    n_samples = seconds_to_samples(seconds) if math.isfinite(seconds) else 0
    if n_samples < 1:
        raise ValueError(f"seconds = {seconds}, allowed finite lengths of one sample (1 / {SAMPLE_RATE}) or more")
    if channels not in (1, 2):
        raise ValueError(f"channels = {channels}, allowed 1 or 2")
    sound = recipe.source(n_samples, _generator(name, operator.index(seed)))
    if channels == 1:
        sound = sound.mean(axis=0, keepdims=True)
    finished = recipe.scale(fade(sound, recipe.fade_in, recipe.fade_out), recipe.level)
    return np.asarray(finished, np.float32)


def corpus_manifest(
    folder: str | Path, seeds: Mapping[str, Iterable[int]] = SEEDS, names: Sequence[str] = NAMES
) -> Manifest:
    """List the files that `write_corpus` writes: every sound for every seed, in the seed's split.

    Raises:
        DataError: a seed is in two splits, or a split is unknown.
        ValueError: a name is unknown.
    """
    for name in names:
        _find(name)
    pieces = [(name, seed, split) for split, own in seeds.items() for seed in own for name in names]
    return Manifest(Path(folder), tuple(Recording(_file(name, seed), split, "MIT") for name, seed, split in pieces))


def write_corpus(
    folder: str | Path,
    *,
    seconds: float = 10.0,
    seeds: Mapping[str, Iterable[int]] = SEEDS,
    names: Sequence[str] = NAMES,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Manifest:
    """Write the sounds of the corpus, in stereo, as 24-bit WAV files; the same arguments give the same bytes.

    Args:
        folder: where to, made if it is missing; files of the same names are replaced.
        seconds: length of each.
        seeds: by split, so that no piece is in two.
        names: sounds to write, of `NAMES`; default: all.
        progress: called with the seconds of each finished sound.

    Raises:
        DataError: a seed is in two splits, or a split is unknown.
        ValueError: as `render`.
        OSError: a file cannot be written.
    """
    seeds = {split: tuple(own) for split, own in seeds.items()}
    manifest = corpus_manifest(folder, seeds, names)
    manifest.folder.mkdir(parents=True, exist_ok=True)
    for seed in (seed for own in seeds.values() for seed in own):
        for name in names:
            with AudioWriter(manifest.folder / _file(name, seed), 2, "24") as writer:
                writer.write(render(name, seconds=seconds, seed=seed))
            progress(seconds)
    return manifest


def _file(name: str, seed: int) -> str:
    return f"{name}-{seed:03d}.wav"


def _find(name: str) -> _Recipe:
    if name not in _RECIPES:
        raise ValueError(f"sound {name!r}, allowed {', '.join(NAMES)}")
    return _RECIPES[name]


def _generator(name: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"atrac-data/{name}/{seed}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
