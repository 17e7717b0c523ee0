"""The report on an extraction: how much each split holds, after checking that the shards hold what they should."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import CODEC_DELAY, unpack_units, write_whole
from atrac_bitstream.tables import FRAME_SAMPLES, SAMPLE_RATE
from atrac_data.errors import DataError
from atrac_data.fields import Frames
from atrac_data.manifest import SPLITS
from atrac_data.shards import Shard, find_shards

REPORT_FILE: Final = "report.json"
_UNIT_FIELDS: Final = ("bsm", "n_bfu", "idwl", "quantized")
_LONGEST_DELAY: Final = 2 * FRAME_SAMPLES


@dataclass(frozen=True)
class SplitReport:
    """What one split holds.

    Args:
        recordings: number of recordings.
        hours: length of all that is stored; augmented variants count, channels do not.
        frames: frames of one channel.
        short_blocks: share of them with short blocks in the low, mid and high band; None without field `bsm`.
        arrays: arrays that were read; each has its shape and type, each shard its checksum.
        units: sound units that were compared with the fields beside them; each holds these fields.
        delay: samples from what went in to what comes out; None without the two, or in silence.
    """

    recordings: int
    hours: float
    frames: int
    short_blocks: tuple[float, ...] | None
    arrays: int
    units: int
    delay: int | None


def write_report(output: Path) -> dict[str, SplitReport]:
    """Check every shard of an extraction, write `report.json` beside the splits, and return the reports by split.

    Raises:
        DataError: as `check_shards`.
        OSError: a file cannot be read or written.
    """
    folders = [output / split for split in SPLITS if (output / split).is_dir()]
    reports = {folder.name: check_shards(find_shards(folder)) for folder in folders}
    text = json.dumps({split: asdict(report) for split, report in reports.items()}, indent=1)
    write_whole(output / REPORT_FILE, f"{text}\n".encode())
    return reports


def check_shards(paths: Sequence[Path]) -> SplitReport:
    """Read all shards of a split, check and count what they hold.

    Raises:
        DataError: a shard is damaged; an array has another shape or type than it should; a sound unit does not hold the
            fields beside it; or the round trip does not take 266 samples. The shard is named.
    """
    recordings, length, frames, arrays, units = set(), 0, 0, 0, 0
    short, correlation = np.zeros(3), np.zeros(_LONGEST_DELAY)
    for shard in map(Shard, paths):
        shard.verify()
        for number, about in enumerate(shard.runs):
            run = {name: shard.array(number, name) for name in shard.fields}
            recordings.add(about.recording)
            length += about.frames
            frames += about.frames * about.channels
            arrays += len(run)
            if "bsm" in run:
                short += (run["bsm"] > 0).sum((0, 1))
            if {"units", "idsf", *_UNIT_FIELDS} <= run.keys():
                equal = _units_equal(run)
                units += equal.size
                if not equal.all():
                    raise DataError(f"{shard.path}: {about.key}: {(~equal).sum()} sound units differ from their fields")
            if {"pcm", "dec_pcm"} <= run.keys():
                correlation += _correlation(run["pcm"], run["dec_pcm"])
    delay = _delay(correlation)
    if delay not in (None, CODEC_DELAY):
        raise DataError(f"{paths[0].parent}: the round trip takes {delay} samples, expected {CODEC_DELAY}")
    shares = tuple((short / max(frames, 1)).tolist()) if "bsm" in shard.fields else None
    hours = length * FRAME_SAMPLES / SAMPLE_RATE / 3600
    return SplitReport(len(recordings), hours, frames, shares, arrays, units, delay)


def as_text(reports: Mapping[str, SplitReport]) -> str:
    """Return a table of the counts and of what was checked.

    Example:
        >>> report = SplitReport(2, 1.5, 930_000, (0.1, 0.05, 0.025), 48, 930_000, 266)
        >>> print(as_text({"train": report}))
        split        recordings     hours      frames   short blocks, %      arrays       units  delay
        train                 2     1.500      930000   10.00 5.00 2.50          48      930000    266
    """
    lines = ["split        recordings     hours      frames   short blocks, %      arrays       units  delay"]
    for split, one in reports.items():
        short = " ".join(f"{100 * share:.2f}" for share in one.short_blocks or ())
        counts = f"{split:10} {one.recordings:12} {one.hours:9.3f} {one.frames:11}   {short:16}"
        lines.append(f"{counts} {one.arrays:10} {one.units:11} {one.delay or '':>6}".rstrip())
    return "\n".join(lines)


def _units_equal(run: Frames) -> NDArray[np.bool_]:
    """Tell which sound units hold the fields beside them. Shape: [C, F]."""
    unit = unpack_units(run["units"])
    carried = np.arange(run["idsf"].shape[-1]) < run["n_bfu"][..., None]
    equal: NDArray[np.bool_] = (unit.idsf == run["idsf"] * carried).all(-1)
    for name in _UNIT_FIELDS:
        same = getattr(unit, name) == run[name]
        equal &= same if same.ndim == 2 else same.all(-1)
    return equal


def _correlation(pcm: NDArray[np.float32], decoded: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlate what went in with what came out of a run, over all channels, for each delay.

    Shape: pcm, decoded [C, F, 512] -> [1024]
    """
    before, after = (array.reshape(len(array), -1).astype(np.float64) for array in (pcm, decoded))
    after[:, :_LONGEST_DELAY] = 0.0  # so that each delay sums equally many products
    size = 2 * max(before.shape[1], _LONGEST_DELAY)
    spectra = np.conj(np.fft.rfft(before, size)) * np.fft.rfft(after, size)
    return np.asarray(np.fft.irfft(spectra, size)[:, :_LONGEST_DELAY].sum(0))


def _delay(correlation: NDArray[np.float64]) -> int | None:
    """Return the delay of greatest correlation, or the codec's if no other has more: tones have many such."""
    if not correlation.any():
        return None
    return CODEC_DELAY if correlation[CODEC_DELAY] > 0.999 * correlation.max() else int(correlation.argmax())
