"""Which kind of content a recording is: as a file says, or as it sounds.

The guess asks in this order, of the first `SECONDS`, the mean of the channels:

    speech             in a third of its frames or more there is a voice's pitch, it glides, and there are pauses
                       and attacks between
    noisy              its spectrum is flat; then transients if its level leaps or it dies away, else tones and noise
    transients         its level leaps far, or it is a stroke that dies away
    dense music        it touches many pitch classes
    tones and noise    its spectrum hardly changes, and it is not loudest at its start
    solo instruments   what remains

It is a small rule, and wrong often enough (a solo over many notes is dense music to it, a bell a drum):
results name what was guessed. Its numbers were set on some seventy recordings.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE

SPEECH: Final = "speech"
SOLO: Final = "solo instruments"
DENSE: Final = "dense music"
TRANSIENTS: Final = "transients"
TONES: Final = "tones and noise"
KINDS: Final = (SPEECH, SOLO, DENSE, TRANSIENTS, TONES)
KINDS_FILE: Final = "kinds.json"
"""Pattern to kind, beside the recordings; the first pattern that fits a path counts."""
SECONDS: Final = 10.0

Array = NDArray[np.float64]
_SMALL: Final = 1e-12
_SHORT, _MIDDLE, _LONG = 1024, 2048, 8192
"""Samples of a frame for spectra over time, pitch, and pitch classes."""
_PITCHES: Final = (70.0, 400.0)
"""Hz: of voices."""
_PERIODIC: Final = 0.8
"""Correlation with itself a period later from which on a frame has a pitch."""


def read_kinds(path: Path) -> dict[str, str]:
    """Read a JSON file: pattern of paths to kind. Raises: OSError; ValueError: it is no such file."""
    try:
        kinds = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(kinds, dict):
        raise ValueError(f"{path}: allowed an object, pattern to kind, found {type(kinds).__name__}")
    for pattern, kind in kinds.items():
        if kind not in KINDS:
            raise ValueError(f"{path}: {pattern} is {kind!r}, allowed {', '.join(KINDS)}")
    return kinds


def kind_of(path: str, kinds: Mapping[str, str]) -> str | None:
    """Return the kind of the first pattern that fits a path; none if none does."""
    return next((kind for pattern, kind in kinds.items() if fnmatch.fnmatchcase(path, pattern)), None)


@dataclass(frozen=True)
class Features:
    """What the guess hears.

    Args:
        flatness: geometric to arithmetic mean of the power from 0.2 to 16 kHz, dB; median of frames that sound.
        change: of the levels of bins from frame to frame, dB; median of frames that sound.
        voiced: share of frames with a voice's pitch, of those that sound.
        glide: how far that pitch moves from frame to frame, semitones.
        pauses: share of time 35 dB or more below the loudest moment.
        leap: rise of the level within 12 ms that 1 % of the moments exceed, dB.
        loud: share of time within 20 dB of the loudest moment.
        loudest: where that is, as a share of the length.
        pitch_classes: how many of the twelve are touched, by the exponential of their entropy.
    """

    flatness: float
    change: float
    voiced: float
    glide: float
    pauses: float
    leap: float
    loud: float
    loudest: float
    pitch_classes: float


def guess(pcm: NDArray[np.float32]) -> str:
    """Guess the kind of a recording. Shape: [C, N]."""
    heard = listen(pcm)
    if heard.voiced >= 0.35 and heard.glide >= 0.4 and heard.pauses >= 0.1 and heard.leap >= 8:
        return SPEECH
    if heard.flatness > -22:
        return TRANSIENTS if heard.leap >= 8 or heard.loud < 0.6 else TONES
    if heard.leap > 25 or (heard.loud < 0.45 and heard.loudest < 0.1 and heard.change < 0.25):
        return TRANSIENTS
    if heard.pitch_classes >= 7:
        return DENSE
    return TONES if heard.change < 0.4 and heard.loudest >= 0.28 else SOLO


def listen(pcm: NDArray[np.float32]) -> Features:
    """Return what the guess goes by. Shape: [C, N]."""
    sound = pcm[:, : int(SECONDS * SAMPLE_RATE)].mean(0, dtype=np.float64)
    spectra = _spectra(sound, _SHORT, _SHORT // 2)
    energy = spectra.sum(1)
    sounds = energy > energy.max() * 1e-4
    hertz = np.fft.rfftfreq(_SHORT, 1 / SAMPLE_RATE)
    heard = spectra[:, (hertz > 200) & (hertz < 16_000)] + _SMALL
    flatness = 10 * np.log10(np.exp(np.log(heard[sounds]).mean(1)) / heard[sounds].mean(1))
    change = np.abs(np.diff(10 * np.log10(heard / heard.max() + 1e-6), axis=0)).mean(1)[sounds[1:]]
    level = 10 * np.log10(_frames(sound**2, 512, 256).mean(1) + _SMALL)
    level = np.maximum(level - level.max(), -60)
    voiced, glide = _voice(sound)
    return Features(
        flatness=float(np.median(flatness)) if sounds.any() else 0.0,
        change=float(np.median(change)) if len(change) else 0.0,
        voiced=voiced,
        glide=glide,
        pauses=float((level < -35).mean()),
        leap=float(np.percentile(level[2:] - level[:-2], 99)) if len(level) > 2 else 0.0,
        loud=float((level > -20).mean()),
        loudest=int(level.argmax()) / len(level),
        pitch_classes=_pitch_classes(sound),
    )


def _frames(sound: Array, size: int, hop: int) -> Array:
    padded = np.pad(sound, (0, max(0, size - len(sound))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def _spectra(sound: Array, size: int, hop: int) -> Array:
    power: Array = np.abs(np.fft.rfft(_frames(sound, size, hop) * np.hanning(size))) ** 2
    return power


def _voice(sound: Array) -> tuple[float, float]:
    """Return the share of frames with a pitch, by autocorrelation, and how far it moves."""
    shortest, longest = (round(SAMPLE_RATE / pitch) for pitch in reversed(_PITCHES))
    window = np.hanning(_MIDDLE)
    frames = _frames(sound, _MIDDLE, _MIDDLE // 2)
    frames = frames - frames.mean(1, keepdims=True)
    energy = (frames**2).sum(1)
    sounds = energy > energy.max() * 1e-3
    if not sounds.any():
        return 0.0, 0.0
    both = np.stack([*(frames * window), window])
    correlation = np.fft.irfft(np.abs(np.fft.rfft(both, 2 * _MIDDLE)) ** 2)[:, :longest]
    own = correlation[-1] / correlation[-1, 0]
    likeness = correlation[:-1, shortest:] / (correlation[:-1, :1] * own[shortest:] + _SMALL)
    pitched = sounds & (likeness.max(1) > _PERIODIC)
    notes = -12 * np.log2(shortest + likeness.argmax(1))
    moves = np.abs(np.diff(notes))[pitched[1:] & pitched[:-1]]
    moves = moves[moves < 4]  # a larger one is a mistake of an octave or a new note
    return float(pitched[sounds].mean()), float(moves.mean()) if len(moves) else 0.0


def _pitch_classes(sound: Array) -> float:
    hertz = np.fft.rfftfreq(_LONG, 1 / SAMPLE_RATE)
    tonal = (hertz > 60) & (hertz < 4000)
    spectra = _spectra(sound, _LONG, _LONG // 2)
    energy = spectra.sum(1)
    sums = spectra[energy > energy.max() * 1e-3][:, tonal]
    classes = np.round(12 * np.log2(hertz[tonal] / 440)).astype(int) % 12
    shares = np.bincount(classes, (sums / (sums.sum(1, keepdims=True) + _SMALL)).sum(0), 12) + _SMALL
    shares /= shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
