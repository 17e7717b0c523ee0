"""Golden sound units, and sounds to code."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from atrac_codec import DECODERS, ENCODERS, NNFullCodec

GOLDEN = Path(__file__).parent / "golden" / "units.npz"
PAIRS = [*((name, "standard") for name in ENCODERS), *(("reference", name) for name in DECODERS if name != "standard")]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The names of an encoder and a decoder; every one is there once at least."""
    names: tuple[str, str] = request.param
    return names


@pytest.fixture(scope="session", params=["music_stereo", "clicks_stereo", "voice_mono"])
def golden(request: pytest.FixtureRequest) -> SimpleNamespace:
    """PCM [C, N] in full scales, and the reference codec's sound units [F, C, 212] for it."""
    with np.load(GOLDEN) as file:
        pcm = file[f"{request.param}.pcm"].astype(np.float32) / 32768
        return SimpleNamespace(name=request.param, pcm=pcm, units=file[f"{request.param}.sound_units"])


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def audio(sound):
    """Return the bytes of an audio file of a sound, or of other samples [C, n]."""

    def make(pcm: Any = 9000, kind: str = "WAV", rate: int = 44100, subtype: str | None = None) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, (sound(pcm) if isinstance(pcm, int) else pcm).T, rate, subtype, format=kind)
        return file.getvalue()

    return make


@pytest.fixture
def piped():
    """Send bytes through a pipe of the system; return its end to read from."""
    with contextlib.ExitStack() as stack:

        def send(data: bytes) -> BinaryIO:
            read, write = os.pipe()

            def run() -> None:
                with contextlib.suppress(BrokenPipeError), open(write, "wb") as file:
                    file.write(data)

            stack.callback((sender := threading.Thread(target=run)).join)
            sender.start()
            return stack.enter_context(open(read, "rb"))

        yield send


@pytest.fixture
def stdin(piped, monkeypatch: pytest.MonkeyPatch):
    """Send bytes through a pipe to standard input."""
    return lambda data: monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=piped(data)))


@pytest.fixture(scope="session")
def aea(sound):
    """Encode a sound; return the bytes of the AEA file."""
    codec = NNFullCodec.from_pretrained()

    @functools.cache
    @torch.no_grad()
    def encode(samples: int = 20_000, channels: int = 2, seed: int = 0) -> bytes:
        batch = codec.encode(torch.from_numpy(sound(samples, channels, seed))[None])
        return codec.to_bytes(batch, samples, "a sound")[0]

    return encode


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, so that a test sees what is left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def contents():
    """List what a folder holds, with all that is in it: path -> bytes of a file, None of a folder."""

    def read(folder: Path) -> dict[str, bytes | None]:
        return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in folder.rglob("*")}

    return read


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code in chunks of 4 frames, so that short files have several and take little time."""
    monkeypatch.setattr("atrac_codec.stream.CHUNK_FRAMES", 4)
    monkeypatch.setattr("atrac_codec.files.CHUNK_FRAMES", 4)
    monkeypatch.setattr("atrac_codec.chunks.CHUNK_FRAMES", 4)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch):
    """Give every file that is opened to be written room for so many bytes."""

    class FullDisk(io.FileIO):
        room = 0

        def write(self, data: Any) -> int:
            if self.tell() + len(memoryview(data).cast("B")) > self.room:
                raise OSError(errno.ENOSPC, "no space left")
            return super().write(data)

    real = Path.open

    def limit(room: int) -> None:
        def limited(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if "+" not in mode and "w" not in mode:
                return real(self, mode, *args, **kwargs)
            raw = FullDisk(self, mode.replace("b", ""))
            raw.room = room
            return io.BufferedRandom(raw, 512)

        monkeypatch.setattr(Path, "open", limited)

    return limit
