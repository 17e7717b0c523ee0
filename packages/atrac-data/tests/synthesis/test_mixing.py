import numpy as np
import pytest

from atrac_data.synthesis.mixing import room


def test_blocks_of_a_room_join_without_a_seam():
    """An impulse has the same echo within the first 2 ** 17 samples and across their end."""
    dry = np.zeros((2, 150_000))
    dry[:, [5, 131_000]] = 1.0
    wet = room(dry, np.random.default_rng(0), decay=0.1, wet=0.2)
    np.testing.assert_allclose(wet[:, 5:5000], wet[:, 131_000:135_995], atol=1e-12)
    echo = wet[:, 5:4415] - np.eye(1, 4410)
    assert np.linalg.norm(echo[0]) == pytest.approx(0.2, rel=1e-6)
