import numpy as np

from atrac_data.synthesis.mixing import Sound
from atrac_data.synthesis.moving_filter import moving_filter


def test_still_response_equals_convolution():
    rng = np.random.default_rng(1)
    noise, taps = rng.normal(size=5000), rng.normal(size=50)

    def response(times: Sound, frequencies: Sound) -> np.ndarray:
        delays = np.exp(-2j * np.pi * np.outer(frequencies / 44100, np.arange(50)))
        return np.broadcast_to(delays @ taps, (len(times), len(frequencies)))

    np.testing.assert_allclose(moving_filter(noise, response), np.convolve(noise, taps)[:5000], atol=1e-10)
