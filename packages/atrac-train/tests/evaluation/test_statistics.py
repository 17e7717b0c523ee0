"""Means by recording: intervals, differences and the number of better recordings, on invented rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from atrac_train.evaluation.results import ALL, Bits, Interval, Item, Row, Summary, labels
from atrac_train.evaluation.statistics import bits_by_encoder, interval, summarise

SIGNS = {"SNR": 1, "NMR": -1}
NAMES = ("a", "b", "c")


def row(recording: str, encoder: str, snr: float | None, nmr: float | None, bits: Bits | None = None) -> Row:
    return Row(recording, encoder, "ffmpeg", {"SNR": snr, "NMR": nmr}, {}, bits, None)


def item(name: str, kind: str = "speech") -> Item:
    return Item(name, 1.0, 1, kind)


def by_key(summary: list[Summary]) -> dict[tuple[str, str, str], Summary]:
    return {(one.encoder, one.kind, one.score): one for one in summary}


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
    rows = [row(name, "first", 10.0 * k, -5.0) for k, name in enumerate(NAMES)]
    rows += [row(name, "other", 10.0 * k + 1, -5.0) for k, name in enumerate(NAMES)]
    found = by_key(summarise(rows, map(item, NAMES), SIGNS))
    other = found["other", ALL, "SNR"]
    assert other.difference == Interval(1.0, 1.0, 1.0)
    assert other.value.high - other.value.low > 5
    assert (other.better, other.equal, other.worse) == ([*NAMES], [], [])
    assert found["first", ALL, "SNR"].difference is None
    assert found["other", ALL, "NMR"].equal == [*NAMES]


def test_less_is_better_where_the_sign_says_so():
    rows = [row("a", "first", 1.0, 1.0), row("b", "first", 1.0, 1.0)]
    rows += [row("a", "other", 2.0, 2.0), row("b", "other", 0.0, 0.0)]
    found = by_key(summarise(rows, map(item, "ab"), SIGNS))
    assert (found["other", ALL, "SNR"].better, found["other", ALL, "SNR"].worse) == (["a"], ["b"])
    assert (found["other", ALL, "NMR"].better, found["other", ALL, "NMR"].worse) == (["b"], ["a"])


def test_only_recordings_count_that_all_have_a_score_for():
    rows = [row("a", "first", 1.0, 1.0), row("b", "first", 100.0, 1.0)]
    rows += [row("a", "other", 3.0, None), row("b", "other", None, None)]
    found = by_key(summarise(rows, map(item, "ab"), SIGNS))
    assert found["first", ALL, "SNR"].value.mean == 1.0
    assert found["other", ALL, "SNR"].recordings == 1


@pytest.mark.parametrize("silent", ["first", "other"])
def test_a_pair_without_scores_does_not_hide_the_others(silent: str):
    snr = {"first": 1.0, "other": 2.0, "third": 3.0, silent: None}
    rows = [row(name, encoder, value, None) for encoder, value in snr.items() for name in "ab"]
    found = by_key(summarise(rows, map(item, "ab"), SIGNS))
    assert {key for key in found if key[1] == ALL} == {(name, ALL, "SNR") for name in snr if name != silent}
    third = found["third", ALL, "SNR"]
    assert third.value.mean == 3.0
    assert third.difference == (None if silent == "first" else Interval(2.0, 2.0, 2.0))
    assert third.better == ([] if silent == "first" else ["a", "b"])


def test_kinds_are_summarised_apart():
    rows = [row(name, "first", float(k), 0.0) for k, name in enumerate(NAMES)]
    items = [item("a", "speech"), item("b", "transients"), item("c", "transients")]
    found = by_key(summarise(rows, items, SIGNS))
    means = {kind: found["first", kind, "SNR"].value.mean for kind in (ALL, "speech", "transients")}
    assert means == {ALL: 1.0, "speech": 0.0, "transients": 1.5}


def test_bits_are_means_over_sound_units():
    few, many = (Bits(n, n, x, 2 * x, x, [x] * 3, [x] * 52) for n, x in ((1, 10.0), (3, 2.0)))
    rows = [row("a", "one", 1.0, 1.0, few), row("b", "one", 1.0, 1.0, many), row("c", "one", None, None)]
    again = [dataclasses.replace(one, decoder="standard") for one in rows]  # the same files by another decoder
    assert bits_by_encoder(rows + again) == {"one": Bits(4, 4, 4.0, 8.0, 4.0, [4.0] * 3, [4.0] * 52)}


def test_pairs_go_by_the_encoder_alone_where_there_is_one_decoder():
    assert list(labels([("x", "f"), ("y", "f")]).values()) == ["x", "y"]
    assert list(labels([("x", "f"), ("x", "g")]).values()) == ["x to f", "x to g"]
