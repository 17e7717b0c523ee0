"""Means by recording: intervals, differences and the number of better recordings, on invented rows."""

from __future__ import annotations

import numpy as np
import pytest

from atrac_train.evaluation.bits import Bits
from atrac_train.evaluation.kinds import ALL
from atrac_train.evaluation.results import Item, Row, labels, summed_up
from atrac_train.evaluation.statistics import Interval, Summary, interval

SCORES = {"SNR": "more", "NMR": "less"}
NAMES = ("a", "b", "c")
Numbers = list[float | None]


def summarised(snr: dict[str, Numbers], nmr: dict[str, Numbers], *kinds: str) -> dict[tuple[str, str, str], Summary]:
    """Return summaries by encoder, kind and score, of the scores of each encoder for recordings a, b, c."""
    rows = [
        Row(name, encoder, "ffmpeg", {"SNR": one, "NMR": other})
        for encoder in snr
        for name, one, other in zip(NAMES, snr[encoder], nmr[encoder])
    ]
    items = [Item(name, 1.0, 1, kind) for name, kind in zip(NAMES, kinds or ["speech"] * 3)]
    items = [item for item in items if item.path in {row.recording for row in rows}]
    return {(one.encoder, one.kind, one.score): one for one in summed_up({}, SCORES, items, rows).summary}


def test_interval_of_two_values_spans_both():
    assert interval([0.0, 1.0]) == Interval(0.5, 0.0, 1.0)  # a quarter of the draws is both times the same


def test_interval_has_the_width_of_the_normal_one():
    values = np.random.default_rng(1).standard_normal(400)
    found = interval(values.tolist())
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
    assert interval(values.tolist()) == found


def test_interval_needs_values():
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_differences_go_recording_by_recording():
    snr: dict[str, Numbers] = {"first": [0.0, 10.0, 20.0], "other": [1.0, 11.0, 21.0]}
    found = summarised(snr, {"first": [-5.0] * 3, "other": [-5.0] * 3})
    other = found["other", ALL, "SNR"]
    assert other.difference == Interval(1.0, 1.0, 1.0)
    assert other.value.high - other.value.low > 5
    assert (other.better, other.equal, other.worse) == ([*NAMES], [], [])
    assert found["first", ALL, "SNR"].difference is None
    assert found["other", ALL, "NMR"].equal == [*NAMES]


def test_less_is_better_where_the_score_says_so():
    numbers: dict[str, Numbers] = {"first": [1.0, 1.0], "other": [2.0, 0.0]}
    found = summarised(numbers, numbers)
    for score, better, worse in (("SNR", "a", "b"), ("NMR", "b", "a")):
        other = found["other", ALL, score]
        assert (other.better, other.worse) == ([better], [worse])
        assert other.difference == Interval(0.0, -1.0, 1.0)


def test_only_recordings_count_that_all_have_a_score_for():
    numbers: dict[str, Numbers] = {"first": [1.0, 100.0], "other": [3.0, None]}
    found = summarised(numbers, numbers)
    assert found["first", ALL, "SNR"].value.mean == 1.0
    assert found["other", ALL, "SNR"].recordings == 1


@pytest.mark.parametrize("silent", ["first", "other"])
def test_a_pair_without_scores_does_not_hide_the_others(silent: str):
    snr: dict[str, Numbers] = {"first": [1.0] * 2, "other": [2.0] * 2, "third": [3.0] * 2, silent: [None] * 2}
    found = summarised(snr, {encoder: [None] * 2 for encoder in snr})
    assert {key for key in found if key[1] == ALL} == {(name, ALL, "SNR") for name in snr if name != silent}
    third = found["third", ALL, "SNR"]
    assert third.value.mean == 3.0
    assert third.difference == (None if silent == "first" else Interval(2.0, 2.0, 2.0))
    assert third.better == ([] if silent == "first" else ["a", "b"])


def test_kinds_are_summarised_apart():
    numbers: dict[str, Numbers] = {"first": [0.0, 1.0, 2.0]}
    found = summarised(numbers, numbers, "speech", "transients", "transients")
    means = {kind: found["first", kind, "SNR"].value.mean for kind in (ALL, "speech", "transients")}
    assert means == {ALL: 1.0, "speech": 0.0, "transients": 1.5}


def test_bits_are_means_over_sound_units():
    def bits(units: int, over: int, x: float) -> Bits:
        numbers = {"used": x, "budget": 2 * x, "n_bfu": x, "short_share": [x] * 3, "word_length": [x] * 52}
        return {"units": units, "over_budget": over, **numbers}

    files = {"a": bits(1, 1, 10.0), "b": bits(3, 3, 2.0), "c": None}
    rows = [  # decoders get the same files
        Row(name, "one", decoder, bits=own) for name, own in files.items() for decoder in ("ffmpeg", "standard")
    ]
    assert summed_up({}, SCORES, [], rows).bits == {"one": bits(4, 4, 4.0)}


def test_pairs_go_by_the_encoder_alone_where_there_is_one_decoder():
    assert list(labels([("x", "f"), ("y", "f")]).values()) == ["x", "y"]
    assert list(labels([("x", "f"), ("x", "g")]).values()) == ["x to f", "x to g"]
