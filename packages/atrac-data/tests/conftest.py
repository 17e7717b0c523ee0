"""A folder of small recordings, what was extracted from it, and a way to spoil a shard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from atrac_data import BuiltinTeacher, Manifest, Settings, extract, render, scan

GOLDEN = Path(__file__).parent / "golden" / "frames.npz"
SOUNDS = {
    "a/long.wav": ("attacks", 0.85, 2, 44100, "train"),
    "a/mono.wav": ("noise", 0.3, 1, 44100, "train"),
    "b/other rate.flac": ("noise", 0.25, 2, 48000, "train"),
    "b/short.wav": ("noise", 0.002, 1, 44100, "train"),
    "b/last.wav": ("noise", 0.4, 2, 44100, "train"),
    "c.wav": ("noise", 0.3, 1, 44100, "validation"),
    "d.wav": ("noise", 0.3, 2, 44100, "test"),
}
"""Path to sound, seconds, channels, rate, split. None repeats, so that frames can be told apart."""


@pytest.fixture(scope="session", params=["music_stereo", "voice_mono"])
def golden(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The reference codec's values for one signal; a missing file fails."""
    with np.load(GOLDEN) as file:
        prefix = request.param + "."
        values = {k.removeprefix(prefix): file[k] for k in file.files if k.startswith(prefix)}
    values["pcm"] = values["pcm"].astype(np.float32) / 32768
    return SimpleNamespace(**values)


@pytest.fixture(scope="session")
def teacher() -> BuiltinTeacher:
    return BuiltinTeacher()


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the sounds, a split file and a licence file."""
    folder = tmp_path_factory.mktemp("recordings")
    for seed, (path, (name, seconds, channels, rate, _)) in enumerate(SOUNDS.items()):
        (folder / path).parent.mkdir(exist_ok=True)
        sound = render(name, seconds=seconds, seed=seed, channels=channels)
        soundfile.write(folder / path, sound.T, rate, "PCM_24")
    (folder / "split.json").write_text(json.dumps({path: sound[-1] for path, sound in SOUNDS.items()}))
    (folder / "licences.json").write_text(json.dumps({"a/*": "CC0", "b/*.wav": "CC-BY"}))
    return folder


@pytest.fixture(scope="session")
def manifest(recordings: Path) -> Manifest:
    return scan(recordings)


@pytest.fixture(scope="session")
def extracted(manifest: Manifest, teacher: BuiltinTeacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All fields of them, in several shards; only to be read."""
    folder = tmp_path_factory.mktemp("extracted")
    extract(manifest, teacher, folder, Settings(shard_seconds=0.5))
    return folder


@pytest.fixture
def train(extracted: Path, tmp_path: Path) -> Path:
    """A copy of its train split, to be spoilt."""
    return shutil.copytree(extracted / "train", tmp_path / "train")


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads all files of a folder."""
    return lambda folder: {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
