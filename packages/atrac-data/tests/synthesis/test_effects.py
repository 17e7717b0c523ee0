import numpy as np

from atrac_data import render


def test_effects_cover_all_three_bands_have_clicks_and_move_from_side_to_side():
    left, right = render("effects", seconds=20.0).astype(np.float64)
    power = np.abs(np.fft.rfft(left)) ** 2
    quarter = len(power) // 4
    shares = [
        part.sum() / power.sum() for part in (power[:quarter], power[quarter : 2 * quarter], power[2 * quarter :])
    ]
    assert min(shares) > 0.003
    assert (np.abs(np.diff(left)) > 0.5 * np.abs(left).max()).sum() > 10
    powers = [
        np.mean(side[: len(side) // 4410 * 4410].reshape(-1, 4410) ** 2, axis=-1) + 1e-9 for side in (left, right)
    ]
    balance = 10 * np.log10(powers[0] / powers[1])
    assert balance.min() < -6.0 < 6.0 < balance.max()
