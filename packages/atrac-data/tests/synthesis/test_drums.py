import numpy as np

from atrac_data import SAMPLE_RATE
from atrac_data.synthesis.drums import hat, high_passed_noise, kick, snare


def centroid(sound: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float(np.sum(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE) * power) / power.sum())


def test_drums_lie_low_middle_and_high() -> None:
    rng = np.random.default_rng(0)
    assert centroid(kick()) < 150.0 < centroid(snare(rng)) < 8000.0 < centroid(hat(rng))


def test_drums_begin_and_end_at_zero() -> None:
    rng = np.random.default_rng(0)
    for drum in (kick(), snare(rng), hat(rng), hat(rng, 0.15)):
        assert np.abs(drum[[0, -1]]).max() < 1e-4
        assert np.abs(drum).max() > 0.3


def test_high_passed_noise_has_nothing_below() -> None:
    noise = high_passed_noise(44100, 7000.0, np.random.default_rng(1))
    assert np.abs(np.fft.rfft(noise)[:6999]).max() < 1e-9
