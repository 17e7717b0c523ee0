import numpy as np
import pytest

from atrac_data import render

STRETCH = 882
"""Samples in 20 ms."""


@pytest.mark.parametrize("seed", range(2))
def test_speech_has_pauses_a_pitch_and_voiced_and_hissing_parts(seed: int):
    sound = render("speech", seconds=10.0, seed=seed, channels=1)[0].astype(np.float64)
    stretches = sound[: len(sound) // STRETCH * STRETCH].reshape(-1, STRETCH)
    levels = 10 * np.log10(np.mean(stretches**2, axis=-1) + 1e-12)
    silent = levels < -60.0
    assert 0.05 < silent.mean() < 0.5
    lengths = np.diff(np.flatnonzero(np.diff(np.r_[False, silent, False].astype(int))))[::2]
    assert (lengths >= 5).sum() >= 2  # two pauses of 100 ms or more
    power = np.abs(np.fft.rfft(stretches * np.hanning(STRETCH))) ** 2
    treble = (power[:, 50:].sum(axis=-1) / (power.sum(axis=-1) + 1e-9))[levels > -50.0]  # share above 2.5 kHz
    assert np.mean(treble < 0.1) > 0.4
    assert np.mean(treble > 0.5) > 0.03
    loudest = int(np.argmax(levels)) * STRETCH
    piece = sound[loudest : loudest + 2 * STRETCH]
    correlation = np.correlate(piece, piece, "full")[len(piece) - 1 :]
    assert correlation[44100 // 260 : 44100 // 80].max() > 0.4 * correlation[0]  # a pitch of 80 to 260 Hz
