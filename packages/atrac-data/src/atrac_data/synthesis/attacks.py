"""Sudden sounds, many of them, to train and test a transient detector."""

import numpy as np

from atrac_data.synthesis.mixing import Sound, add_at, pan, seconds_of, seconds_to_samples

REGIONS = ((300.0, 5000.0), (6000.0, 10500.0), (11800.0, 20000.0))
"""Hz, where the strokes lie: well inside 0 to 5.5, 5.5 to 11 and 11 to 22 kHz."""

SHORTEST_GAP = 0.05
MEAN_GAP = 0.2
"""s, from one stroke of a region to its next."""

LOUDEST, QUIETEST = 0.0, -34.0
"""dB, between which the gains of the strokes lie evenly."""

FLOOR = -62.0
"""dB, of the noise that fills the time between strokes."""


def render_attacks(n_samples: int, rng: np.random.Generator) -> Sound:
    """Strike castanets of three sizes at random times, with random gains and places, over faint noise.

    Each region of frequency has a rhythm of its own, so strokes meet in every combination. On average there
    are five strokes a second in each.

    Args:
        n_samples: length.
        rng: draws everything.

    Shape:    -> [2, n_samples]
    """
    mix: Sound = 10.0 ** (FLOOR / 20.0) * rng.normal(size=(2, n_samples))
    for region in REGIONS:
        time = rng.exponential(0.05)
        while (start := seconds_to_samples(time)) < n_samples:
            gain = 10.0 ** (rng.uniform(QUIETEST, LOUDEST) / 20.0)
            add_at(mix, pan(gain * _stroke(region, rng), rng.uniform(-0.9, 0.9)), start)
            time += SHORTEST_GAP + rng.exponential(MEAN_GAP - SHORTEST_GAP)
    return mix


def _stroke(region: tuple[float, float], rng: np.random.Generator) -> Sound:
    """Render one stroke: three resonances in a region, which rise within 0.5 ms and decay within 10 to 60 ms."""
    time = seconds_of(seconds_to_samples(0.08))
    decay = rng.uniform(0.0015, 0.009)
    stroke = np.zeros_like(time)
    for frequency in rng.uniform(*region, size=3):
        phase = rng.uniform(0.0, 2.0 * np.pi)
        stroke += rng.uniform(0.3, 1.0) * np.sin(2.0 * np.pi * frequency * time + phase)
    rise = rng.uniform(0.0002, 0.0005)
    attack = 0.5 - 0.5 * np.cos(np.pi * np.minimum(time / rise, 1.0))
    shaped: Sound = stroke * attack * np.exp(-time / decay)
    return shaped / float(np.max(np.abs(shaped)))
