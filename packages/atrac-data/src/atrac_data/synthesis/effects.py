"""Sounds of games and films: sweeps, risers, clicks, bells, one after the other."""

import numpy as np

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_data.synthesis.mixing import Sound, add_at, fade, pan, seconds_of, seconds_to_samples
from atrac_data.synthesis.moving_filter import moving_filter


def render_effects(n_samples: int, rng: np.random.Generator) -> Sound:
    """Play the four effects in ever new order, each drawn anew.

    Args:
        n_samples: length.
        rng: draws the order and the effects.

    Shape:    -> [2, n_samples]
    """
    mix = np.zeros((2, n_samples))
    makers = (_sweep, _riser, _clicks, _bell)
    start = seconds_to_samples(0.02)
    while start < n_samples:
        for index in rng.permutation(len(makers)):
            effect = makers[index](rng)
            add_at(mix, rng.uniform(0.6, 1.0) * effect, start)
            start += effect.shape[-1] + seconds_to_samples(rng.uniform(0.05, 0.2))
    return mix


def _sweep(rng: np.random.Generator) -> Sound:
    """A sine that runs through most of what can be heard, and from one side to the other."""
    n_samples = seconds_to_samples(rng.uniform(0.6, 1.2))
    along = np.linspace(0.0, 1.0, n_samples)
    if rng.random() < 0.5:
        along = along[::-1]
    frequency = 60.0 * (rng.uniform(9000.0, 19000.0) / 60.0) ** along
    sine = np.sin(2.0 * np.pi * np.cumsum(frequency) / SAMPLE_RATE)
    return pan(0.7 * fade(sine, 0.01, 0.02), rng.choice([-0.8, 0.8]) * np.linspace(-1.0, 1.0, n_samples))


def _riser(rng: np.random.Generator) -> Sound:
    """Noise and a tone that rise and grow, and stop at their highest."""
    n_samples = seconds_to_samples(rng.uniform(0.9, 1.5))
    length = n_samples / SAMPLE_RATE
    highest = rng.uniform(6000.0, 12000.0)

    def band(times: Sound, frequencies: Sound) -> Sound:
        centre = 250.0 * (highest / 250.0) ** np.clip(times / length, 0.0, 1.0)
        return np.exp(-0.5 * (np.log2(np.maximum(frequencies, 1.0) / centre) / 0.35) ** 2)

    along = np.linspace(0.0, 1.0, n_samples)
    tone = np.sin(2.0 * np.pi * np.cumsum(110.0 * 8.0**along) / SAMPLE_RATE)
    sides = [moving_filter(rng.normal(size=n_samples), band) + 0.25 * tone for _ in range(2)]
    return 0.5 * fade(np.stack(sides) * 10.0 ** (1.5 * (along - 1.0)), 0.02, 0.002)


def _clicks(rng: np.random.Generator) -> Sound:
    """Clicks of one to four samples that come faster and faster, left and right in turn."""
    n_samples = seconds_to_samples(rng.uniform(0.7, 1.1))
    clicks = np.zeros((2, n_samples))
    gap = rng.uniform(0.09, 0.14)
    time, side = 0.0, 1.0
    while time < n_samples / SAMPLE_RATE:
        width = int(rng.integers(1, 5))
        add_at(clicks, pan(np.full(width, rng.choice([-0.9, 0.9])), 0.6 * side), seconds_to_samples(time))
        time, side, gap = time + gap, -side, max(0.88 * gap, 0.006)
    return clicks


def _bell(rng: np.random.Generator) -> Sound:
    """A bell by frequency modulation.

    Source:   Chowning, "The synthesis of complex audio spectra by means of frequency modulation", JAES 21
    (7), 1973
    """
    time = seconds_of(seconds_to_samples(rng.uniform(1.1, 1.7)))
    carrier = rng.uniform(250.0, 1400.0)
    ratio = rng.choice([1.4, 2.76, 3.5])
    highest = (20000.0 - carrier) / (ratio * carrier) - 1.0  # beyond it the side tones would fold back
    index = min(rng.uniform(3.0, 8.0), highest) * np.exp(-time / 0.35)
    wave = np.sin(2.0 * np.pi * carrier * time + index * np.sin(2.0 * np.pi * ratio * carrier * time))
    return pan(0.8 * fade(wave * np.exp(-time / 0.4), 0.001, 0.1), rng.uniform(-0.7, 0.7))
