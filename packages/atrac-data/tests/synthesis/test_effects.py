import numpy as np

from atrac_data import render


def test_effects_cover_all_three_bands_and_have_clicks() -> None:
    sound = render("effects", seconds=10.0, channels=1)[0].astype(np.float64)
    power = np.abs(np.fft.rfft(sound)) ** 2
    quarter = len(power) // 4
    share = np.array([power[:quarter].sum(), power[quarter : 2 * quarter].sum(), power[2 * quarter :].sum()])
    assert (share / share.sum() > 0.003).all()
    steps = np.abs(np.diff(sound))
    assert (steps > 0.5 * np.abs(sound).max()).sum() > 10


def test_a_sound_moves_from_side_to_side() -> None:
    left, right = render("effects", seconds=20.0).astype(np.float64)
    n = len(left) // 4410 * 4410
    powers = [np.mean(side[:n].reshape(-1, 4410) ** 2, axis=-1) + 1e-9 for side in (left, right)]
    balance = 10 * np.log10(powers[0] / powers[1])
    assert balance.max() > 6.0
    assert balance.min() < -6.0
