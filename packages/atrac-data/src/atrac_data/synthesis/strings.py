"""A plucked string."""

import numpy as np

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_data.synthesis.mixing import Sound, fade, seconds_to_samples


def pluck(
    frequency: float,
    seconds: float,
    rng: np.random.Generator,
    *,
    decay: float = 3.0,
    damping: float = 0.5,
    brightness: float = 2500.0,
    position: float = 0.15,
) -> Sound:
    """Pluck a string: a burst of noise runs around a loop that loses a little each time.

    y[n] = burst[n] + g ((1 - damping) y[n - period] + damping y[n - period - 1]), with g from `decay`

    The loop is solved in the frequency domain, y = burst / (1 - loop), so that its length need not be a whole
    number of samples and every string is in tune. What still rings after `seconds` is aliased to the start, some 40 dB
    down.

    Args:
        frequency: Hz.
        seconds: length of the result.
        rng: draws the burst.
        decay: s until the fundamental has fallen by 60 dB.
        damping: 0 to 0.5; more lets overtones die sooner.
        brightness: Hz, above which the burst falls by 6 dB per octave; softer fingers have less.
        position: where the string is plucked, as a part of its length; thins out every (1 / position)th
        overtone.

    Shape:    -> [T]
    Units:    root mean square of the first quarter second 0.25
    Source:   Karplus and Strong, "Digital synthesis of plucked-string and drum timbres", Computer Music
              Journal 7 (2), 1983; pluck position: Jaffe and Smith, "Extensions of the Karplus-Strong
              plucked-string algorithm", same issue
    Differs:  solved in the frequency domain, where they run a delay line; the burst passes a low-pass first.
    Example:
        >>> pluck(220.0, 0.5, np.random.default_rng(0)).shape
        (22050,)
    """
    n_samples = seconds_to_samples(seconds)
    n_fft = 1 << max(n_samples - 1, 1).bit_length()
    period = SAMPLE_RATE / frequency
    advance = -2j * np.pi * np.fft.rfftfreq(n_fft)
    burst = np.zeros(n_fft)
    n_burst = min(int(np.ceil(period)), n_fft)
    burst[:n_burst] = rng.uniform(-1.0, 1.0, n_burst)
    finger = 1.0 / (1.0 - advance * (SAMPLE_RATE / (2.0 * np.pi * brightness)))
    excitation = np.fft.rfft(burst) * finger * (1.0 - np.exp(advance * (position * period)))
    gain = 10.0 ** (-3.0 / (decay * frequency))
    loop = gain * (1.0 - damping + damping * np.exp(advance)) * np.exp(advance * (period - damping))
    string = np.fft.irfft(excitation / (1.0 - loop), n_fft)[:n_samples]
    loudness = np.sqrt(np.mean(np.square(string[: SAMPLE_RATE // 4])))
    return fade(0.25 / loudness * string, 0.0, 0.03)
