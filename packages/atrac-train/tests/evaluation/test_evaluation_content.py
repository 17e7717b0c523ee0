"""Kinds of content: what a file says, and what is guessed of sounds that are clearly of one kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_data import render
from atrac_train.evaluation.content import DENSE, SOLO, SPEECH, TONES, TRANSIENTS, guess, kind_of, read_kinds

TIME = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE


def tone(pitch: float | NDArray[np.float64], partials: int = 8) -> NDArray[np.float64]:
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(pitch, TIME.shape)) / SAMPLE_RATE
    return np.sum([np.sin(k * phase) / k for k in range(1, partials + 1)], axis=0)


def voice() -> NDArray[np.float64]:
    """Syllables of a pitch that glides, with pauses between, and breath."""
    syllable = (TIME * 3 % 1) < 0.6
    pitch = 120 * 2 ** (0.6 * np.sin(2 * np.pi * 3 * TIME))
    return tone(pitch) * syllable + 1e-3 * np.random.default_rng(0).standard_normal(TIME.size)


def chords() -> NDArray[np.float64]:
    """Three voices, each of them on another note every half second."""
    notes = np.array([[0, 4, 7], [2, 5, 9], [11, 2, 7], [1, 6, 10], [0, 3, 8], [5, 9, 0]])
    place = np.minimum((TIME * 2).astype(int), 5)
    return np.sum([tone(220 * 2 ** (notes[place, k] / 12), 4) for k in range(3)], axis=0)


SOUNDS = {
    "voice": (voice(), SPEECH),
    "chords": (chords(), DENSE),
    "a note that dies away slowly": (tone(220.0) * np.exp(-0.7 * TIME), SOLO),
    "a tone that swells": (tone(220.0) * np.sin(np.pi * TIME / 3), TONES),
    "noise": (render("noise", seconds=2, seed=0)[0], TONES),
    "attacks": (render("attacks", seconds=2, seed=0)[0], TRANSIENTS),
    "a stroke": (tone(200.0) * np.exp(-12 * TIME), TRANSIENTS),
    "silence": (np.zeros(1000), TONES),
    "a sample": (np.ones(1), TONES),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_clear_cases_are_guessed(name: str):
    sound, kind = SOUNDS[name]
    assert guess(np.stack([0.2 * sound, 0.1 * sound]).astype(np.float32)) == kind


def test_the_first_pattern_that_fits_counts(tmp_path: Path):
    (tmp_path / "kinds.json").write_text(json.dumps({"a/*": SOLO, "*": DENSE}))
    kinds = read_kinds(tmp_path / "kinds.json")
    assert (kind_of("a/b.wav", kinds), kind_of("b.wav", kinds), kind_of("b.wav", {})) == (SOLO, DENSE, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "found list"),
        ('{"a": "song"}', "a is 'song', allowed speech"),
        ('{"a": []}', "a is []"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str):
    (tmp_path / "kinds.json").write_text(text)
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        read_kinds(tmp_path / "kinds.json")
