import time

import numpy as np
import pytest

from atrac_data import SAMPLE_RATE, render

LONGEST_RENDER = 3.0
"""s for 10 s of music: about 0.5 measured, with room for a slow machine."""


@pytest.mark.parametrize("seed", range(4))
def test_music_stands_on_the_notes_of_one_major_scale(seed: int) -> None:
    """Most power of the picked opening lies within 20 cents of seven of the twelve semitones."""
    opening = render("music", seconds=10.0, seed=seed, channels=1)[0][: int(1.8 * SAMPLE_RATE)]
    power = np.abs(np.fft.rfft(opening * np.hanning(len(opening)), 1 << 18)) ** 2
    frequencies = np.fft.rfftfreq(1 << 18, 1 / SAMPLE_RATE)
    inside = (frequencies > 100.0) & (frequencies < 900.0)
    notes = 69 + 12 * np.log2(frequencies[inside] / 440.0)
    near = np.abs(notes - np.round(notes)) < 0.2
    classes = np.round(notes).astype(int) % 12
    by_class = np.array([power[inside][near & (classes == c)].sum() for c in range(12)])
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    best = max(by_class[(scale + key) % 12].sum() for key in range(12))
    assert best > 0.75 * power[inside].sum()


@pytest.mark.parametrize("seed", range(4))
def test_music_has_a_beat_and_never_falls_silent(seed: int) -> None:
    sound = render("music", seconds=10.0, seed=seed, channels=1)[0]
    level = 10 * np.log10(np.mean(sound[: len(sound) // 512 * 512].reshape(-1, 512) ** 2, axis=-1) + 1e-12)
    rises = np.flatnonzero(np.diff(level) > 3.0)
    assert len(rises) > 20
    assert level[5 : -SAMPLE_RATE // 512].min() > -45.0


@pytest.mark.parametrize("seconds", [0.5, 3.0, 3.9, 5.0, 33.0])
def test_music_fits_any_length(seconds: float) -> None:
    sound = render("music", seconds=seconds, seed=1)
    assert sound.shape == (2, round(seconds * SAMPLE_RATE))
    thirds = np.array_split(sound, 3, axis=-1)
    assert min(np.abs(third).max() for third in thirds) > 0.05


def test_ten_seconds_are_quick() -> None:
    render("music", seconds=0.1)
    start = time.perf_counter()
    render("music", seconds=10.0)
    assert time.perf_counter() - start < LONGEST_RENDER
