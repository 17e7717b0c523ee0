"""What every sound of the corpus promises; synthesis/ tests what each kind claims to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atrac_codec import read_audio
from atrac_data import NAMES, SEEDS, SPLITS, DataError, render, scan, write_corpus

PEAK_LEVELS = {"music": -1.0, "speech": -3.0, "effects": -2.0, "attacks": -1.0}
RMS_LEVELS = {"noise": -20.0, "pink_noise": -20.0}
LEVEL_TOLERANCE = 1e-4
"""dB: one rounding to float32."""


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_sound_has_shape_type_range_and_level(name: str, channels: int):
    sound = render(name, seconds=1.7, seed=4, channels=channels)
    assert sound.shape == (channels, 74970)
    assert sound.dtype == np.float32
    assert np.abs(sound).max() <= 1.0
    if name in PEAK_LEVELS:
        assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(PEAK_LEVELS[name], abs=LEVEL_TOLERANCE)
    else:
        level = 10 * np.log10(np.mean(sound.astype(np.float64) ** 2))
        assert level == pytest.approx(RMS_LEVELS[name], abs=LEVEL_TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_is_fixed_by_its_seed_and_differs_from_those_of_others(name: str):
    sounds = [render(name, seconds=1.0, seed=seed, channels=1)[0] for seed in (0, 1, -1, 2**70)]
    assert render(name, seconds=1.0, seed=0, channels=1)[0].tobytes() == sounds[0].tobytes()
    assert np.abs(np.corrcoef(sounds) - np.eye(4)).max() < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_left_and_right_differ_and_one_channel_is_their_mean(name: str):
    left, right = sound = render(name, seconds=0.5)
    assert np.sqrt(np.mean((left - right) ** 2)) > 0.02 * np.sqrt(np.mean(left**2))
    mean, mono = sound.mean(axis=0), render(name, seconds=0.5, channels=1)[0]
    gain = np.dot(mono, mean) / np.dot(mean, mean)
    np.testing.assert_allclose(mono, gain * mean, atol=1e-6)  # float32 rounding of three samples


@pytest.mark.parametrize("name", ["music", "speech"])
@pytest.mark.parametrize("seconds", [0.3, 2.0])
def test_music_and_speech_begin_and_end_without_a_click(name: str, seconds: float):
    sound = render(name, seconds=seconds, seed=2)
    assert np.abs(sound[:, [0, 1, 2, 3, -4, -3, -2, -1]]).max() < 1e-3  # -60 dBFS


@pytest.mark.parametrize("name", NAMES)
def test_shortest_sounds_are_finite(name: str):
    for n_samples in (1, 2, 3, 100):
        sound = render(name, seconds=n_samples / 44100)
        assert sound.shape == (2, n_samples)
        assert np.isfinite(sound).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "musik"}, "sound 'musik', allowed music, speech, effects, noise, pink_noise, attacks"),
        *(({"seconds": s}, "seconds = .*, allowed finite lengths") for s in (0.0, -1.0, 1e-6, float("nan"), np.inf)),
        *(({"channels": c}, f"channels = {c}, allowed 1 or 2") for c in (0, 3)),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        render(**{"name": "noise", "seconds": 0.1, **arguments})


def test_seed_must_be_whole():
    with pytest.raises(TypeError):
        render("noise", seconds=0.1, seed=0.5)  # type: ignore[arg-type]
    assert (render("noise", seconds=0.1, seed=np.int64(3)) == render("noise", seconds=0.1, seed=3)).all()  # type: ignore[arg-type]


def test_the_corpus_as_files_has_every_sound_for_every_seed_in_one_split(tmp_path: Path):
    heard: list[float] = []
    seeds, names = {"train": (7, 6), "validation": (8,), "test": range(9, 10)}, ("speech", "noise")
    manifest = write_corpus(tmp_path, seconds=0.1, seeds=seeds, names=names, progress=heard.append)
    assert {r.path for r in manifest.recordings} == {r.path for r in scan(tmp_path).recordings}
    for split, own in seeds.items():
        assert {r.path for r in manifest.of(split)} == {f"{name}-{seed:03d}.wav" for name in names for seed in own}
    assert {recording.licence for recording in manifest.recordings} == {"MIT"}
    assert heard == [0.1] * 8
    sound = read_audio(tmp_path / "speech-007.wav")
    assert np.abs(sound - render("speech", seconds=0.1, seed=7)).max() <= 2**-24  # half a step of 24 bits
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write_corpus(tmp_path, seconds=0.1, seeds=seeds, names=names)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_seeds_that_cannot_be_are_refused_before_anything_is_written(tmp_path: Path):
    assert {split: len(own) for split, own in SEEDS.items()} == dict(zip(SPLITS, (8, 1, 1), strict=True))
    with pytest.raises(DataError, match=r"music-001\.wav: each recording allowed once"):
        write_corpus(tmp_path / "x", seeds={"train": (0, 1), "test": (1,)})
    with pytest.raises(DataError, match="split 'dev', allowed train"):
        write_corpus(tmp_path / "x", seeds={"dev": (0,)})
    with pytest.raises(ValueError, match=r"sound 'noises', allowed music"):
        write_corpus(tmp_path / "x", names=["noises"])
    assert not (tmp_path / "x").exists()
