import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_data import SAMPLE_RATE, render

STRETCH = 882
"""Samples in 20 ms."""


def levels(sound: NDArray[np.float32]) -> NDArray[np.float64]:
    stretches = sound[: len(sound) // STRETCH * STRETCH].reshape(-1, STRETCH).astype(np.float64)
    return 10 * np.log10(np.mean(stretches**2, axis=-1) + 1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_speech_has_pauses_and_is_not_all_pause(seed: int) -> None:
    silent = levels(render("speech", seconds=10.0, seed=seed, channels=1)[0]) < -60.0
    assert 0.05 < silent.mean() < 0.5
    runs = np.diff(np.flatnonzero(np.diff(np.r_[False, silent, False].astype(int))))[::2]
    assert (runs >= 5).sum() >= 2  # two pauses of 100 ms or more


@pytest.mark.parametrize("seed", range(4))
def test_speech_has_voiced_and_hissing_parts(seed: int) -> None:
    sound = render("speech", seconds=10.0, seed=seed, channels=1)[0]
    stretches = sound[: len(sound) // STRETCH * STRETCH].reshape(-1, STRETCH)
    power = np.abs(np.fft.rfft(stretches * np.hanning(STRETCH))) ** 2
    treble = power[:, 50:].sum(axis=-1) / (power.sum(axis=-1) + 1e-9)  # above 2.5 kHz
    heard = levels(sound) > -50.0
    assert np.mean(treble[heard] < 0.1) > 0.4
    assert np.mean(treble[heard] > 0.5) > 0.03


def test_voice_has_a_pitch() -> None:
    """The autocorrelation of the loudest stretch peaks at a lag between 80 and 260 Hz."""
    sound = render("speech", seconds=10.0, channels=1)[0].astype(np.float64)
    at = int(np.argmax(levels(sound))) * STRETCH
    piece = sound[at : at + 2 * STRETCH]
    correlation = np.correlate(piece, piece, "full")[len(piece) - 1 :]
    lags = slice(SAMPLE_RATE // 260, SAMPLE_RATE // 80)
    assert correlation[lags].max() > 0.4 * correlation[0]
