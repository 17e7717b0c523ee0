import numpy as np

from atrac_data.synthesis.drums import hat, high_passed_noise, kick, snare


def centroid(sound: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float(np.sum(np.fft.rfftfreq(len(sound), 1 / 44100) * power) / power.sum())


def test_drums_lie_low_middle_and_high_and_begin_and_end_at_zero():
    rng = np.random.default_rng(0)
    drums = (kick(), snare(rng), hat(rng), hat(rng, 0.15))
    assert centroid(drums[0]) < 150.0 < centroid(drums[1]) < 8000.0 < centroid(drums[2])
    for drum in drums:
        assert np.abs(drum[[0, -1]]).max() < 1e-4
        assert np.abs(drum).max() > 0.3
    assert np.abs(np.fft.rfft(high_passed_noise(44100, 7000.0, rng))[:6999]).max() < 1e-9
