"""What every sound of the corpus promises, and what each kind claims to be."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atrac_codec import read_audio
from atrac_data import KINDS, NAMES, SAMPLE_RATE, SEEDS, SPLITS, DataError, render, scan, write_corpus

PEAK_LEVELS = {"music": -1.0, "speech": -3.0, "effects": -2.0, "attacks": -1.0}
RMS_LEVELS = {"noise": -20.0, "pink_noise": -20.0}
LEVEL_TOLERANCE = 1e-4
"""dB: one rounding to float32."""


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_sound_has_shape_type_and_range(name: str, channels: int) -> None:
    sound = render(name, seconds=1.7, seed=4, channels=channels)
    assert sound.shape == (channels, 74970)
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1.0


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_sound_has_its_level(name: str, channels: int) -> None:
    sound = render(name, seconds=3.0, seed=4, channels=channels).astype(np.float64)
    if name in PEAK_LEVELS:
        assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(PEAK_LEVELS[name], abs=LEVEL_TOLERANCE)
    else:
        assert 10 * np.log10(np.mean(sound**2)) == pytest.approx(RMS_LEVELS[name], abs=LEVEL_TOLERANCE)


def test_every_name_has_a_level_here_and_a_kind() -> None:
    assert set(PEAK_LEVELS) | set(RMS_LEVELS) == set(NAMES)
    assert tuple(name for names in KINDS.values() for name in names) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_same_arguments_give_same_bytes(name: str) -> None:
    assert render(name, seconds=1.0, seed=7).tobytes() == render(name, seconds=1.0, seed=7).tobytes()


def test_another_process_gives_the_same_bytes() -> None:
    code = (
        "import hashlib, atrac_data as d;"
        "print(hashlib.sha256(b''.join(d.render(n, seconds=0.5).tobytes() for n in d.NAMES)).hexdigest())"
    )
    path = ":".join(sys.path)
    digest = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
        text=True,
    ).stdout.strip()
    here = hashlib.sha256(b"".join(render(name, seconds=0.5).tobytes() for name in NAMES)).hexdigest()
    assert digest == here


def test_global_random_state_is_neither_used_nor_changed() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    render("attacks", seconds=0.2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index] # noqa: NPY002


@pytest.mark.parametrize("name", NAMES)
def test_seeds_differ(name: str) -> None:
    sounds = [render(name, seconds=2.0, seed=seed, channels=1)[0] for seed in (0, 1, -1, 2**70)]
    for i, one in enumerate(sounds):
        for other in sounds[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_left_and_right_differ(name: str) -> None:
    left, right = render(name, seconds=2.0)
    assert np.sqrt(np.mean((left - right) ** 2)) > 0.02 * np.sqrt(np.mean(left**2))


@pytest.mark.parametrize("name", NAMES)
def test_one_channel_is_the_mean_of_two(name: str) -> None:
    mean = render(name, seconds=0.5).mean(axis=0)
    mono = render(name, seconds=0.5, channels=1)[0]
    gain = np.dot(mono, mean) / np.dot(mean, mean)
    np.testing.assert_allclose(mono, gain * mean, atol=1e-6)  # float32 rounding of three samples


@pytest.mark.parametrize("name", ["music", "speech"])
@pytest.mark.parametrize("seconds", [0.3, 2.0, 10.0])
def test_music_and_speech_begin_and_end_without_a_click(name: str, seconds: float) -> None:
    sound = render(name, seconds=seconds, seed=2)
    for edge in (sound[:, :4], sound[:, -4:]):
        assert np.abs(edge).max() < 1e-3  # -60 dBFS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_samples", [1, 2, 3, 100, 1000])
def test_shortest_sounds_are_finite(name: str, n_samples: int) -> None:
    sound = render(name, seconds=n_samples / SAMPLE_RATE)
    assert sound.shape == (2, n_samples)
    assert np.isfinite(sound).all()


def test_unknown_name_lists_and_suggests() -> None:
    with pytest.raises(ValueError, match=r"unknown sound 'musik', known are music, speech, .*'music'\?") as error:
        render("musik")
    assert all(name in str(error.value) for name in NAMES)
    with pytest.raises(ValueError, match="did you mean 'pink_noise'"):
        render("Pink noise")
    with pytest.raises(ValueError, match=r"attacks$"):
        render("zzz")


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-6, float("nan"), float("inf")])
def test_impossible_length_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"seconds = .*, allowed finite lengths"):
        render("noise", seconds=seconds)


@pytest.mark.parametrize("channels", [0, 3, -1])
def test_impossible_channels_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"channels = {channels}, allowed 1 or 2"):
        render("noise", seconds=0.1, channels=channels)


def test_seed_must_be_whole() -> None:
    with pytest.raises(TypeError):
        render("noise", seconds=0.1, seed=0.5)  # type: ignore[arg-type]
    assert (render("noise", seconds=0.1, seed=np.int64(3)) == render("noise", seconds=0.1, seed=3)).all()  # type: ignore[arg-type]


def test_kinds_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        KINDS["music"] = ()  # type: ignore[index]


def test_the_corpus_as_files_has_every_sound_for_every_seed_in_one_split(tmp_path: Path) -> None:
    heard: list[float] = []
    seeds = {"train": (7,), "validation": (8,), "test": range(9, 10)}
    manifest = write_corpus(tmp_path, seconds=0.2, seeds=seeds, progress=heard.append)
    assert [r.path for r in sorted(manifest.recordings, key=lambda r: r.path)] == [
        r.path for r in scan(tmp_path).recordings
    ]
    for split, own in seeds.items():
        assert {r.path for r in manifest.of(split)} == {f"{name}-{seed:03d}.wav" for name in NAMES for seed in own}
    assert {recording.licence for recording in manifest.recordings} == {"MIT"}
    assert heard == [0.2] * 18
    sound = read_audio(tmp_path / "speech-007.wav")
    assert np.abs(sound - render("speech", seconds=0.2, seed=7)).max() <= 2**-24  # half a step of 24 bits
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write_corpus(tmp_path, seconds=0.2, seeds=seeds)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_some_sounds_of_the_corpus_can_be_asked_for(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, seconds=0.1, seeds={"train": (0, 1)}, names=["noise", "attacks"])
    written = ["attacks-000.wav", "attacks-001.wav", "noise-000.wav", "noise-001.wav"]
    assert sorted(recording.path for recording in manifest.recordings) == written
    assert sorted(path.name for path in tmp_path.iterdir()) == written
    with pytest.raises(ValueError, match=r"unknown sound 'noises', .* did you mean 'noise'"):
        write_corpus(tmp_path, names=["noises"])


def test_the_corpus_has_eight_seeds_to_train_on_and_one_each_to_choose_and_to_judge() -> None:
    assert tuple(SEEDS) == SPLITS
    assert [len(own) for own in SEEDS.values()] == [8, 1, 1]


def test_a_seed_in_two_splits_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"music-001\.wav and music-001\.wav: each recording allowed once"):
        write_corpus(tmp_path / "x", seeds={"train": (0, 1), "test": (1,)})
    with pytest.raises(DataError, match="split 'dev', allowed train"):
        write_corpus(tmp_path / "x", seeds={"dev": (0,)})
    assert not (tmp_path / "x").exists()
