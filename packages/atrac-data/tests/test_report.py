"""The report, on what was extracted and on what was spoilt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atrac_data import (
    BuiltinTeacher,
    DataError,
    FrameDataset,
    Frames,
    Run,
    Shard,
    as_text,
    find_shards,
    write_report,
    write_shard,
)
from atrac_data.report import SplitReport, check_shards


@pytest.fixture
def checked(tmp_path: Path) -> Callable[[Frames], SplitReport]:
    """Write a shard of one run and check it."""

    def checked(run: Frames) -> SplitReport:
        channels, frames = run["pcm"].shape[:2]
        write_shard(tmp_path / "s.tar", list(run), {}, [(Run("k", "r", "", 0, frames, channels), run)])
        return check_shards([tmp_path / "s.tar"])

    return checked


@pytest.fixture
def run(extracted: Path) -> Frames:
    shard = Shard(find_shards(extracted / "train")[0])
    return {name: shard.array(0, name).copy() for name in shard.fields}


def test_the_report_counts_what_is_there(extracted, manifest, tmp_path):
    reports = write_report(folder := shutil.copytree(extracted, tmp_path / "copy"))
    written = json.loads((folder / "report.json").read_text())
    assert list(reports) == list(written) == ["train", "validation", "test"]
    for split, report in reports.items():
        runs = list(FrameDataset(folder / split).runs())
        assert report.recordings == written[split]["recordings"] == len(manifest.of(split))
        assert report.hours * 3600 == pytest.approx(512 / 44100 * sum(run["pcm"].shape[1] for run in runs))
        assert report.frames == report.units == len(FrameDataset(folder / split))
        bsm = np.concatenate([run["bsm"].reshape(-1, 3) for run in runs])
        assert report.short_blocks == pytest.approx((bsm > 0).mean(0).tolist())
        assert (report.arrays, report.delay) == (16 * len(runs), 266)
        assert f"{split} {report.recordings} " in " ".join(as_text(reports).split())


def test_fields_that_are_not_there_are_not_checked(run, checked):
    report = checked({"pcm": run["pcm"]})
    assert (report.short_blocks, report.units, report.delay) == (None, 0, None)
    assert as_text({"test": report}).split()[-2:] == ["1", "0"]


@pytest.mark.parametrize("name", ["bsm", "n_bfu", "idwl", "idsf", "quantized"])
def test_a_sound_unit_that_does_not_hold_its_fields_is_named(run, checked, name: str):
    run[name][0, 3] += 1
    with pytest.raises(DataError, match=r"s\.tar: k: 1 sound units differ from their fields"):
        checked(run)


@pytest.mark.parametrize("delay", [265, 267, 0])
def test_another_delay_is_told(run, checked, delay: int):
    run["dec_pcm"] = np.roll(run["dec_pcm"].reshape(len(run["pcm"]), -1), delay - 266, 1).reshape(run["pcm"].shape)
    with pytest.raises(DataError, match=rf"the round trip takes {delay} samples, expected 266"):
        checked(run)


@pytest.mark.parametrize(("gain", "delay"), [(0.5, 266), (0.0, None)])
def test_tones_and_silence_have_no_other_delay(checked, gain: float, delay: int | None):
    tone = gain * np.sin(2 * np.pi * 441 / 44100 * np.arange(64 * 512, dtype=np.float32))
    (run,) = BuiltinTeacher().frames([tone[None].astype(np.float32)])
    assert checked(run).delay == delay
