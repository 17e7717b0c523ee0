import numpy as np
import pytest

from atrac_data.synthesis.mixing import fade, pan, room, to_peak, to_rms


@pytest.mark.parametrize("position", [-1.0, -0.3, 0.0, 0.8, 1.0])
def test_pan_keeps_power(position: float):
    left, right = pan(np.ones(1), position)[:, 0]
    assert left**2 + right**2 == pytest.approx(1.0)
    assert (right > left) == (position > 0)


def test_fade_begins_and_ends_at_zero_and_leaves_the_middle():
    faded = fade(np.ones((2, 44100)), 0.1, 0.2)
    assert (faded[:, [0, -1]] == 0.0).all()
    assert (faded[:, 4410:-8820] == 1.0).all()
    assert (np.diff(faded[:, :4410]) > 0).all()


def test_levels_leave_silence_alone_and_stay_within_full_scale():
    assert (to_peak(np.zeros((2, 3)), -1.0) == 0.0).all()
    assert (to_rms(np.zeros((2, 3)), -1.0) == 0.0).all()
    spikes = np.zeros((1, 1000))
    spikes[0, ::100] = 1.0
    assert np.abs(to_rms(spikes, -3.0)).max() == 1.0


def test_blocks_of_a_room_join_without_a_seam():
    """An impulse has the same echo within the first 2 ** 17 samples and across their end."""
    dry = np.zeros((2, 150_000))
    dry[:, [5, 131_000]] = 1.0
    wet = room(dry, np.random.default_rng(0), decay=0.1, wet=0.2)
    np.testing.assert_allclose(wet[:, 5:5000], wet[:, 131_000:135_995], atol=1e-12)
    echo = wet[:, 5:4415] - np.eye(1, 4410)
    assert np.linalg.norm(echo[0]) == pytest.approx(0.2, rel=1e-6)
