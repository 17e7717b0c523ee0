import numpy as np
import pytest

from atrac_data import render


@pytest.mark.parametrize("seed", range(2))
def test_music_stands_on_one_major_scale_has_a_beat_and_never_falls_silent(seed: int):
    """Most power of the picked opening lies within 20 cents of seven of the twelve semitones."""
    sound = render("music", seconds=8.0, seed=seed, channels=1)[0]
    opening = sound[:79380]
    power = np.abs(np.fft.rfft(opening * np.hanning(len(opening)), 1 << 18)) ** 2
    frequencies = np.fft.rfftfreq(1 << 18, 1 / 44100)
    inside = (frequencies > 100.0) & (frequencies < 900.0)
    notes = 69 + 12 * np.log2(frequencies[inside] / 440.0)
    near, classes = np.abs(notes - np.round(notes)) < 0.2, np.round(notes).astype(int) % 12
    by_class = np.array([power[inside][near & (classes == c)].sum() for c in range(12)])
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    assert max(by_class[(scale + key) % 12].sum() for key in range(12)) > 0.75 * power[inside].sum()
    level = 10 * np.log10(np.mean(sound[: len(sound) // 512 * 512].reshape(-1, 512) ** 2, axis=-1) + 1e-12)
    assert (np.diff(level) > 3.0).sum() > 16
    assert level[5:-86].min() > -45.0


@pytest.mark.parametrize("seconds", [0.5, 3.0, 3.9, 13.0])
def test_music_fits_any_length(seconds: float):
    sound = render("music", seconds=seconds, seed=1)
    assert sound.shape == (2, round(seconds * 44100))
    assert min(np.abs(third).max() for third in np.array_split(sound, 3, axis=-1)) > 0.05
