"""Kinds of content: the first pattern counts, and a wrong file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from atrac_train.evaluation.kinds import UNNAMED, kind_of, read_kinds


def test_the_first_pattern_that_matches_counts(tmp_path: Path):
    (tmp_path / "kinds.json").write_text('{"a/*": "solo", "*.wav": "dense music"}')
    kinds = read_kinds(tmp_path / "kinds.json")
    assert [kind_of(path, kinds) for path in ("a/b.wav", "b.wav", "b.flac")] == ["solo", "dense music", UNNAMED]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "no JSON"), ("[]", "found list"), ('{"a": ""}', "a is ''"), ('{"a": []}', r"a is \[\]")]
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "kinds.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_kinds(tmp_path / "kinds.json")
