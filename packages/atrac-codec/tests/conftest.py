"""Golden sound units, and sounds to code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

GOLDEN = Path(__file__).parent / "golden" / "units.npz"


@pytest.fixture(scope="session", params=["music_stereo", "clicks_stereo", "voice_mono"])
def golden(request: pytest.FixtureRequest) -> SimpleNamespace:
    """PCM [C, N] in full scales, and the reference codec's sound units [F, C, 212] for it."""
    with np.load(GOLDEN) as file:
        pcm = file[f"{request.param}.pcm"].astype(np.float32) / 32768
        return SimpleNamespace(name=request.param, pcm=pcm, units=file[f"{request.param}.sound_units"])


@pytest.fixture
def sound():
    """Make a sound of a tone, a little noise and some clicks, [channels, samples]."""

    def make(samples: int, channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
        rng = np.random.default_rng(seed)
        time = np.arange(samples)
        tones = [np.sin(rng.uniform(0.01, 1.0) * time + 1 + c) for c in range(channels)]
        x = 0.2 * np.stack(tones) + 0.003 * rng.standard_normal((channels, samples))
        x[:, rng.integers(0, samples, samples // 9000)] += 0.5
        return x.clip(-1, 1).astype(np.float32)

    return make


@pytest.fixture
def wav(tmp_path: Path, sound):
    """Write a sound to a float WAV file; return its path."""

    def write(samples: int = 20_000, channels: int = 2, rate: int = 44100, name: str = "in.wav") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(samples, channels).T, rate, "FLOAT" if path.suffix == ".wav" else None)
        return path

    return write
