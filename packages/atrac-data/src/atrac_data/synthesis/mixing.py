"""Mixing: placing, panning and fading sounds, setting their level, and a room around them."""

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE

Sound = NDArray[np.float64]
"""Samples [T], or [2, T] for left and right; full scale +-1.0."""


def seconds_to_samples(seconds: float) -> int:
    """Round a time to whole samples.

    Args:
        seconds: a length or a position.

    Units:    s -> samples
    Example:
        >>> seconds_to_samples(0.5)
        22050
    """
    return round(seconds * SAMPLE_RATE)


def seconds_of(n_samples: int) -> Sound:
    """Count time from 0 for each sample.

    Shape:    -> [n_samples]
    Units:    s
    """
    return np.arange(n_samples) / SAMPLE_RATE


def add_at(mix: Sound, sound: Sound, start: int) -> None:
    """Add a sound to a mix in place; what lies past the end of the mix is dropped.

    Args:
        mix: changed in place.
        sound: what is added.
        start: sample of the mix where the sound begins, 0 or later.

    Shape:    mix [*, T], sound [*, n]
    Example:
        >>> mix = np.zeros(4)
        >>> add_at(mix, np.ones(3), 2)
        >>> mix.tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    part = mix[..., start : start + sound.shape[-1]]
    part += sound[..., : part.shape[-1]]


def pan(sound: Sound, position: float | Sound) -> Sound:
    """Place a sound between left and right at equal power.

    Args:
        sound: one channel.
        position: -1 left, 0 middle, 1 right; one number, or one per sample for a sound that moves.

    Shape:    sound [T] -> [2, T]
    """
    angle = (np.asarray(position) + 1.0) * (np.pi / 4.0)
    return np.stack([np.cos(angle) * sound, np.sin(angle) * sound])


def fade(sound: Sound, fade_in: float, fade_out: float) -> Sound:
    """Let a sound begin and end at zero, along half a cosine.

    Args:
        sound: any number of channels.
        fade_in: s; at most half the sound is used.
        fade_out: s; at most half the sound is used.

    Shape:    sound [*, T] -> [*, T]
    """
    n_samples = sound.shape[-1]
    gain = np.ones(n_samples)
    for seconds, edge in ((fade_in, gain), (fade_out, gain[::-1])):
        n = min(seconds_to_samples(seconds), n_samples // 2)
        edge[:n] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / max(n, 1))
    return sound * gain


def to_peak(sound: Sound, level: float) -> Sound:
    """Scale a sound to a peak; silence stays silent.

    Args:
        sound: any number of channels, scaled by one gain.
        level: dBFS of the largest magnitude.
    """
    peak = float(np.max(np.abs(sound), initial=0.0))
    return sound * (10.0 ** (level / 20.0) / peak) if peak > 0.0 else sound


def to_rms(sound: Sound, level: float) -> Sound:
    """Scale a sound to a power, and cut what would pass full scale; silence stays silent.

    Args:
        sound: any number of channels, scaled by one gain.
        level: dBFS of the root mean square over all channels, 1.0 = 0 dBFS.
    """
    rms = float(np.sqrt(np.mean(np.square(sound))))
    return np.clip(sound * (10.0 ** (level / 20.0) / rms), -1.0, 1.0) if rms > 0.0 else sound


def room(dry: Sound, rng: np.random.Generator, *, decay: float, wet: float) -> Sound:
    """Put a sound into a room, whose echo is decaying noise, independent for each ear.

    Args:
        dry: left and right.
        rng: draws the walls.
        decay: s until the echo has fallen by 60 dB.
        wet: gain of the echo; 0 leaves the sound as it is.

    Shape:    dry [2, T] -> [2, T]
    """
    n_echo = seconds_to_samples(decay)
    echo = rng.normal(size=(2, n_echo)) * 10.0 ** (-3.0 * seconds_of(n_echo) / decay)
    echo[:, : seconds_to_samples(0.008)] = 0.0  # no reflection arrives within 8 ms
    echo = (echo + 2.0 * np.roll(echo, 1, axis=-1) + np.roll(echo, 2, axis=-1)) / 4.0  # walls absorb high frequencies
    echo *= wet / np.sqrt(np.sum(np.square(echo), axis=-1, keepdims=True) + 1e-12)

    n_samples, n_block = dry.shape[-1], 1 << 17
    n_fft = 1 << (n_block + n_echo - 1).bit_length()
    response = np.fft.rfft(echo, n_fft)
    out = dry.copy()
    for start in range(0, n_samples, n_block):
        block = np.fft.rfft(dry[:, start : start + n_block], n_fft)
        add_at(out, np.fft.irfft(block * response, n_fft), start)
    return out
