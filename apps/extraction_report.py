"""The report on extracted shards: counts, statistics, histograms, and a sanity check of what was extracted.

The check reads every shard: its checksum, the shape and type of every array, and that sound units hold the fields
beside them. Of each split one recording's own round trip is measured: samples that went in against samples that came
out, with the codec's delay taken out.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from atrac_bitstream import CODEC_DELAY, unpack_units
from atrac_bitstream.tables import BFU_AMOUNTS, FRAME_SAMPLES, SAMPLE_RATE
from atrac_codec import AudioWriter
from atrac_data import FIELDS, Frames, Shard, Statistics, histogram_axis
from demo import spectrogram

SAMPLE_SECONDS = 10.0
"""Length of the recordings to listen to, as nearly as there are."""
UNIT_FIELDS = ("bsm", "n_bfu", "idwl", "quantized")


@dataclass(frozen=True)
class Report:
    """All numbers, as in report.json, and where they lie."""

    folder: Path
    numbers: dict[str, Any]

    def show(self, console: Console) -> None:
        """Print what matters most."""
        columns = ("recordings", "hours", "shards", "GB", "frames", "short low", "mid", "high", "round trip")
        table = Table("split", *columns, title=f"teacher {self.numbers['teacher']}")
        for split, n in self.numbers["splits"].items():
            shorts = [f"{100 * share:.2f} %" for share in n["short_shares"].values()] or ["", "", ""]
            trip = f"{n['round_trip']['snr']:.1f} dB" if "round_trip" in n else ""
            counts = [str(n["recordings"]), f"{n['hours']:.3f}", str(n["shards"]), f"{n['bytes'] / 1e9:.2f}"]
            table.add_row(split, *counts, str(n["frames"]), *shorts, trip)
        console.print(table)
        split, numbers = next(iter(self.numbers["splits"].items()))
        table = Table("field", "shape", "type", "min", "max", "mean", "std", title=f"fields of {split}")
        for name, n in numbers["fields"].items():
            shape, dtype = str(list(FIELDS[name].shape)), FIELDS[name].dtype.name
            table.add_row(name, shape, dtype, *(f"{n[key]:.5g}" for key in ("min", "max", "mean", "std")))
        console.print(table)
        for split, numbers in self.numbers["splits"].items():
            checked = numbers["sanity"]
            print(f"{split}: {checked['arrays']} arrays have their shapes and types, all checksums are right", end="")
            if "units" in checked:
                print(f", {checked['units_equal']} of {checked['units']} sound units hold their fields", end="")
            print()
        print(f"Everything is in {self.folder}/.")


def write_report(output: Path, shards: Sequence[Path]) -> Report:
    """Read all shards and write the report beside them.

    Raises:
        DataError: a shard is damaged.
        OSError: a file cannot be read or written.
    """
    folder = output / "report"
    folder.mkdir(exist_ok=True)
    by_split: dict[str, list[Shard]] = defaultdict(list)
    for path in shards:
        by_split[path.parent.name].append(Shard(path))
    statistics = {split: Statistics() for split in by_split}
    about = next(iter(by_split.values()))[0].about
    numbers: dict[str, Any] = {**about, "splits": {}}
    for split, own in by_split.items():
        sanity = check(own, statistics[split])
        numbers["splits"][split] = {**count(own), **statistics[split].as_dict(), "sanity": sanity}
        if {"pcm", "dec_pcm"} <= set(own[0].fields):
            numbers["splits"][split]["round_trip"] = round_trip(own, folder / f"round-trip-{split}")
    draw_histograms(statistics, folder / "histograms.png")
    (folder / "report.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Report(folder, numbers)


def count(shards: Sequence[Shard]) -> dict[str, Any]:
    """Count recordings and hours, the latter by licence too; variants count, channels do not."""
    frames: Counter[str] = Counter()
    for shard in shards:
        for run in shard.runs:
            frames[run.licence] += run.frames
    hours = {licence: n * FRAME_SAMPLES / SAMPLE_RATE / 3600 for licence, n in sorted(frames.items())}
    return {
        "recordings": len({run.recording for shard in shards for run in shard.runs}),
        "hours": sum(hours.values()),
        "hours_by_licence": hours,
        "shards": len(shards),
        "bytes": sum(shard.path.stat().st_size for shard in shards),
    }


def check(shards: Sequence[Shard], statistics: Statistics) -> dict[str, int]:
    """Read everything once: measure it, and count what is as it should be."""
    counts: Counter[str] = Counter()
    for shard in shards:
        shard.verify()
        for i in range(len(shard.runs)):
            run = {name: shard.array(i, name) for name in shard.fields}
            statistics.add(run)
            counts["arrays"] += len(run)
            if {"units", "idsf", *UNIT_FIELDS} <= set(run):
                equal = units_hold(run)
                counts["units"] += equal.size
                counts["units_equal"] += int(equal.sum())
    return dict(counts)


def units_hold(run: Frames) -> NDArray[np.bool_]:
    """Tell which sound units hold the fields beside them. Shape: [C, F]."""
    unit = unpack_units(run["units"])
    equal = (unit.idsf == run["idsf"] * (np.arange(52) < run["n_bfu"][..., None])).all(-1)
    for name in UNIT_FIELDS:
        same = getattr(unit, name) == run[name]
        equal &= same if same.ndim == 2 else same.all(-1)
    return equal


def round_trip(shards: Sequence[Shard], base: Path) -> dict[str, Any]:
    """Compare what went in with what came out for one recording; write a picture and both as WAV files."""
    lengths: Counter[str] = Counter()
    for shard in shards:
        for run in shard.runs:
            lengths[run.recording] += run.frames * (run.variant == 0)
    wanted = SAMPLE_SECONDS * SAMPLE_RATE / FRAME_SAMPLES
    recording = min(lengths, key=lambda path: (abs(lengths[path] - wanted), path))
    places = [
        (shard, i)
        for shard in shards
        for i, run in enumerate(shard.runs)
        if run.recording == recording and run.variant == 0
    ]
    joined = {
        name: np.concatenate([shard.array(i, name) for shard, i in places], axis=1) for name in ("pcm", "dec_pcm")
    }
    went_in, came_out = (array.reshape(len(array), -1) for array in joined.values())
    delay = measured_delay(went_in, came_out)
    came_out = came_out[:, CODEC_DELAY:]
    went_in = went_in[:, : came_out.shape[1]]
    error = came_out - went_in
    with np.errstate(divide="ignore"):
        snr = 10 * np.log10(np.mean(went_in.astype(np.float64) ** 2) / np.mean(error.astype(np.float64) ** 2))
    for name, sound in (("in", went_in), ("out", came_out)):
        with AudioWriter(base.with_name(f"{base.name}-{name}.wav"), len(sound), "24") as writer:
            writer.write(sound)
    draw_round_trip(went_in, came_out, f"{recording}: SNR {snr:.1f} dB", base.with_suffix(".png"))
    return {
        "recording": recording,
        "seconds": went_in.shape[1] / SAMPLE_RATE,
        "snr": float(snr) if np.isfinite(snr) else None,
        "largest_error": float(np.abs(error).max()),
        "delay": delay,
    }


def measured_delay(went_in: NDArray[np.float32], came_out: NDArray[np.float32]) -> int:
    """Return the delay at which what came out is most like what went in, samples 0 .. 1023."""
    size = 2 * went_in.shape[1]
    spectra = np.conj(np.fft.rfft(went_in[0], size)) * np.fft.rfft(came_out[0], size)
    return int(np.fft.irfft(spectra, size)[:1024].argmax())


def draw_histograms(statistics: dict[str, Statistics], picture: Path) -> None:
    """Draw the histogram of every field, the splits over each other, and the shares of short blocks."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(next(iter(statistics.values())).fields)
    rows = -(-len(names) // 4)
    figure, axes = pyplot.subplots(rows, 4, figsize=(16, 3.1 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for name, axis in zip(names, axes.flat):
        for i, (split, own) in enumerate(statistics.items()):
            look = {"label": split, "color": f"C{i}"}
            shift = 0.25 * (i - (len(statistics) - 1) / 2)
            if name == "bsm":
                shares = [100 * share for share in own.short_shares.values()]
                draw_bars(axis, list(own.short_shares), shares, shift, look)
            elif name == "n_bfu":
                draw_bars(axis, BFU_AMOUNTS, percent(own.fields[name].histogram)[list(BFU_AMOUNTS)], shift, look)
            else:
                draw_histogram(axis, name, percent(own.fields[name].histogram), look)
        axis.set_title(name)
        if name == "bsm":
            axis.set(ylabel="frames with short blocks, %", xlabel="band")
        elif name == "n_bfu":
            axis.set(ylabel="values, %", xlabel="value")
        else:
            axis.set(ylabel="values, %", xlabel=histogram_axis(name)[1], yscale="log")
        axis.grid(alpha=0.3)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(statistics))
    figure.suptitle("Histograms; the lowest level counts zeros and all below it", x=0.01, ha="left")
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)


def percent(histogram: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return shares of all values."""
    return np.asarray(100 * histogram / max(histogram.sum(), 1))


def draw_bars(axis: Any, names: Sequence[Any], shares: Any, shift: float, look: dict[str, str]) -> None:
    """Draw one split's bars beside those of the others."""
    axis.bar(np.arange(len(names)) + shift, shares, 0.23, **look)
    axis.set_xticks(range(len(names)), names)


def draw_histogram(axis: Any, name: str, shares: NDArray[np.float64], look: dict[str, str]) -> None:
    """Draw one histogram, from the first bin that is not empty to the last."""
    edges, _ = histogram_axis(name)
    used = np.flatnonzero(shares)
    if not len(used):
        return
    own = slice(used[0], used[-1] + 1)
    if FIELDS[name].dtype.itemsize == 2:  # bins are twice as wide each
        axis.step(range(len(edges))[own], shares[own], where="mid", **look)
        axis.set_xticks(range(0, len(edges), 3), [f"{edge:.0f}" for edge in edges[::3]])
    else:
        axis.step(edges[own], shares[own], where="mid", **look)
        axis.xaxis.get_major_locator().set_params(integer=True)


def draw_round_trip(went_in: NDArray[np.float32], came_out: NDArray[np.float32], title: str, picture: Path) -> None:
    """Draw spectrograms of both and of their difference, and the levels of signal and error over time."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, 1, figsize=(12, 12), sharex=True, layout="constrained")
    error = came_out - went_in
    for axis, (name, sound) in zip(axes, {"in": went_in, "out": came_out, "out - in": error}.items()):
        extent = (0, sound.shape[1] / SAMPLE_RATE, 0, SAMPLE_RATE / 2000)
        image = axis.imshow(
            spectrogram(sound[0]), origin="lower", aspect="auto", extent=extent, vmin=-110, vmax=0, cmap="magma"
        )
        axis.set(title=name, ylabel="kHz")
        figure.colorbar(image, ax=axis, label="dB of full scale")
    for name, sound in (("in", went_in), ("out - in", error)):
        frames = sound[0, : sound.shape[1] // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
        levels = 10 * np.log10(np.mean(frames.astype(np.float64) ** 2, axis=1) + 1e-14)
        axes[3].plot((np.arange(len(frames)) + 0.5) * FRAME_SAMPLES / SAMPLE_RATE, levels, label=name)
    axes[3].set(title="level of each frame", ylabel="dB of full scale", xlabel="seconds")
    axes[3].grid(alpha=0.3)
    axes[3].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    figure.suptitle(f"{title}, channel 0")
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)
