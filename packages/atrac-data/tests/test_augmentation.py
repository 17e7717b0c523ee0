from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atrac_data import Augmentation
from atrac_data.augmentation import Change


def drawn(augmentation: Augmentation, n: int = 300) -> list[Change]:
    return [augmentation.draw(np.random.default_rng(seed)) for seed in range(n)]


def test_nothing_happens_by_default():
    assert not Augmentation().changes
    pcm = np.arange(10, dtype=np.float32)[None]
    assert all(np.array_equal(change.apply(pcm), pcm) for change in drawn(Augmentation(), 10))


def test_draws_depend_on_the_seed_alone_and_fill_their_ranges():
    augmentation = Augmentation(offset=True, gain=(-6.0, 3.0), mix=0.5, mix_level=(-20.0, -10.0))
    changes = drawn(augmentation)
    assert changes == drawn(augmentation)
    assert len(set(changes)) == 300
    assert [change.offset for change in drawn(Augmentation(offset=True))] == [change.offset for change in changes]
    levels = [change.mix_level for change in changes if change.mix_level is not None]
    assert 0.4 < len(levels) / 300 < 0.6
    for values, low, high in (
        ([change.offset for change in changes], 0, 511),
        ([change.gain for change in changes], -6, 3),
        (levels, -20, -10),
    ):
        margin = 0.04 * (high - low)
        assert low <= min(values) < low + margin
        assert high - margin < max(values) <= high


def test_offset_drops_samples_and_leaves_at_least_one():
    pcm = np.arange(1000, dtype=np.float32)[None]
    assert np.array_equal(Change(offset=7).apply(pcm), pcm[:, 7:])
    assert Change(offset=511).apply(pcm[:, :100]).tolist() == [[99.0]]


def test_gain_is_in_db_and_the_array_given_is_left_as_it_is():
    pcm = np.full((2, 5), 0.5, np.float32)
    assert Change(gain=20.0, mix_level=-200.0).apply(pcm, pcm) == pytest.approx(5.0)
    assert Change(gain=-6.0).apply(pcm).dtype == np.float32
    assert (pcm == 0.5).all()


def test_mixing_adds_the_other_from_its_place_on_round_and_round():
    pcm, other = np.zeros((1, 10), np.float32), np.array([[1, 2, 3, 4]], np.float32)
    mixed = Change(mix_level=-20.0, mix_start=0.5).apply(pcm, other)
    assert mixed[0] == pytest.approx([0.3, 0.4, 0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4])
    assert mixed.dtype == np.float32
    for nothing in (None, np.zeros((1, 0), np.float32)):
        with pytest.raises(ValueError, match="no recording to mix in"):
            Change(mix_level=0.0).apply(pcm, nothing)


def test_mixing_meets_other_channels_in_mono():
    stereo, mono = np.array([[1, 3], [3, 5]], np.float32), np.ones((1, 2), np.float32)
    assert Change(mix_level=0.0).apply(mono, stereo).tolist() == [[3, 5]]
    assert Change(mix_level=0.0).apply(stereo, mono).tolist() == [[2, 4], [4, 6]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gain": (1.0, -1.0)}, r"gain = \(1\.0, -1\.0\), allowed finite numbers, the lower one first"),
        ({"mix_level": (0.0, float("nan"))}, r"mix_level = \(0\.0, nan\), allowed finite"),
        ({"gain": (0.0, float("inf"))}, r"gain = \(0\.0, inf\), allowed finite"),
        ({"mix": 1.5}, r"mix = 1\.5, allowed 0\.\.1"),
        ({"mix": float("nan")}, r"mix = nan, allowed 0\.\.1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)
