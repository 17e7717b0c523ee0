"""Extracting 60 s of stereo, against FFmpeg decoding the same recording (PyAV, one thread); reading it again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atrac_codec import AudioWriter, StreamEncoder, build_encoder, from_units, to_aea
from atrac_codec.outside import ffmpeg_decode, load_pytrac
from atrac_data import (
    BuiltinTeacher,
    FrameDataset,
    Manifest,
    PytracTeacher,
    Recording,
    Settings,
    extract,
    frame_loader,
    render,
)

SECONDS = 60
SOME = ("pcm", "bands")


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    """A piece of music, in whole frames."""
    sound = render("music", seconds=SECONDS, seed=0)
    return sound[:, : sound.shape[1] // 512 * 512]


@pytest.fixture(scope="module")
def aea(pcm: np.ndarray) -> bytes:
    """It as a file, of the preset that the teacher has."""
    stream = StreamEncoder(build_encoder("bitexact"), 2)
    units = np.concatenate([stream.push(pcm), stream.finish()])
    return to_aea(from_units(units).map(lambda f: f.transpose(0, 1)))


@pytest.fixture(scope="module")
def manifest(pcm: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("recordings")
    with AudioWriter(folder / "music.wav", 2, "24") as writer:
        writer.write(pcm)
    return Manifest(folder, (Recording("music.wav", "train"),))


@pytest.fixture(scope="module")
def train(pcm: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It in four recordings and as many shards."""
    folder = tmp_path_factory.mktemp("quarters")
    recordings = tuple(Recording(f"{i}.wav", "train") for i in range(4))
    for recording, part in zip(recordings, np.array_split(pcm, 4, axis=1), strict=True):
        with AudioWriter(folder / recording.path, 2, "24") as writer:
            writer.write(part)
    extract(Manifest(folder, recordings), BuiltinTeacher(), folder / "shards", Settings(shard_seconds=1.0))
    return folder / "shards" / "train"


def chunks(pcm: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, pcm.shape[1], 512 * 512):
        yield pcm[:, start : start + 512 * 512]


def test_extract_against_ffmpeg_decoding(in_pairs, manifest, aea, tmp_path):
    teacher = BuiltinTeacher()

    def ours() -> None:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        extract(manifest, teacher, tmp_path / "out")

    in_pairs(ours, lambda: ffmpeg_decode(aea))


def test_teacher_alone_against_ffmpeg_decoding(in_pairs, pcm, aea):
    teacher = BuiltinTeacher()
    in_pairs(lambda: list(teacher.frames(chunks(pcm))), lambda: ffmpeg_decode(aea))


def test_teacher_against_pytracs_frame_loop_with_its_fields_read_out(in_pairs, pcm):
    try:
        load_pytrac()
    except ImportError as error:
        pytest.skip(str(error))
    builtin, pytrac = BuiltinTeacher(), PytracTeacher()
    short = pcm[:, : 10 * 44100 // 512 * 512]
    in_pairs(lambda: list(builtin.frames(chunks(short))), lambda: list(pytrac.frames(chunks(short))))


def frames_per_second(benchmark: Any, count: int) -> None:
    benchmark.extra_info["frames a second"] = round(count / benchmark.stats.stats.median)


@pytest.mark.parametrize("fields", [(), SOME], ids=["all fields", "pcm and bands"])
def test_dataset_at_random(benchmark, train, fields):
    dataset = FrameDataset(train, fields)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:2000].tolist()
    benchmark.pedantic(lambda: [dataset[i] for i in order], rounds=5, warmup_rounds=1)
    frames_per_second(benchmark, len(order))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [0, 1000])
@pytest.mark.parametrize("fields", [(), SOME], ids=["all fields", "pcm and bands"])
def test_loader(benchmark, train, fields, shuffle, workers):
    count = len(FrameDataset(train, fields))

    def epoch() -> None:
        read = sum(len(batch["pcm"]) for batch in frame_loader(train, 256, fields, shuffle=shuffle, workers=workers))
        assert read == count

    benchmark.pedantic(epoch, rounds=3, warmup_rounds=1)
    frames_per_second(benchmark, count)
