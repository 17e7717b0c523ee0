"""Measure how much memory encoding and decoding take, and whether it depends on the length.

    python tests/measure_memory.py [--six-hours] [--standard] [--folder FOLDER] [--help]

Makes two WAV files in stereo, of a minute and of an hour, encodes them with every preset and decodes them with every
decoder, each in a process of its own, and reads that process's peak of resident memory (VmHWM, so this needs Linux).
What comes back must have as many samples as went in, and begin and end like it. Prints a table, which docs/results.md
states; exits with 1 if a long file took more than 1.15 times the memory of the short one.

Files of an hour take 2 GB of disk at most; `--six-hours` adds six hours, with the standard chain alone, and takes 9 GB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 44100
CHAINS = {"encode": ("reference", "bitexact"), "decode": ("standard", "bitexact")}
Row = dict[str, float]


def make(path: Path, seconds: int) -> None:
    """Write tones, noise and a click a second, the same every time and different in both channels."""
    rng = np.random.default_rng(seconds)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for second in range(seconds):
            time_axis = second + np.arange(RATE)[:, None] / RATE
            pcm = 0.2 * np.sin(2 * np.pi * np.array([440, 445]) * time_axis)
            pcm += 0.1 * np.sin(2 * np.pi * np.array([3000, 5000]) * time_axis)
            pcm += 0.02 * rng.standard_normal((RATE, 2))
            pcm[20_000 + second % 997] += 0.5
            file.write(pcm)


def child(work: str, name: str, source: str, target: str) -> None:
    """Do one thing, then print the number of samples and the peak of memory."""
    from atrac_codec import build_decoder, build_encoder, decode_file, encode_file

    start = time.perf_counter()
    if work == "encode":
        samples = encode_file(source, target, build_encoder(name)).samples
    else:
        samples = decode_file(source, target, build_decoder(name)).samples
    seconds = time.perf_counter() - start
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps({"samples": samples, "peak": peak, "speed": samples / RATE / seconds}))


def measure(work: str, name: str, source: Path, target: Path, samples: int) -> Row:
    """Run `child` in a fresh process; return its peak in MiB and its speed in times real time."""
    command = [sys.executable, __file__, "--child", work, name, str(source), str(target)]
    row: Row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    if row["samples"] != samples:
        sys.exit(f"{work} {name}: {row['samples']} samples of {samples}")
    print(f"{work} {name}, {samples // RATE} s: {row['peak']:.0f} MiB", file=sys.stderr, flush=True)
    return row


def check_ends(source: Path, decoded: Path, samples: int) -> None:
    """Hold the first and the last second of what was decoded against what was encoded."""
    with soundfile.SoundFile(source) as before, soundfile.SoundFile(decoded) as after:
        if not before.frames == after.frames == samples:
            sys.exit(f"{decoded}: {after.frames} samples of {before.frames}")
        for start in (0, samples - RATE):
            pair: list[NDArray[np.float64]] = []
            for file in (before, after):
                file.seek(start)
                pair.append(file.read(RATE).T)
            likeness = [float(np.corrcoef(x, y)[0, 1]) for x, y in zip(*pair, strict=True)]
            if min(likeness) < 0.95:
                sys.exit(f"{decoded}: correlations from sample {start} on are {likeness}")


def measure_length(folder: Path, seconds: int, chains: dict[str, tuple[str, ...]]) -> dict[tuple[str, str], Row]:
    """Encode and decode a file of so many seconds in all ways; its files are gone afterwards."""
    source, aea, decoded = (folder / name for name in ("source.wav", "encoded.aea", "decoded.wav"))
    samples, rows = seconds * RATE, {}
    make(source, seconds)
    for preset in reversed(chains["encode"]):  # the first one's file is what gets decoded
        rows["encode", preset] = measure("encode", preset, source, aea, samples)
    for decoder in chains["decode"]:
        rows["decode", decoder] = measure("decode", decoder, aea, decoded, samples)
        check_ends(source, decoded, samples)
        decoded.unlink()
    source.unlink()
    aea.unlink()
    return rows


def main() -> int:
    """Measure, print the table; return 1 if memory grows with the length."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", type=int, default=60, help="seconds of the short file")
    parser.add_argument("--long", type=int, default=3600, help="seconds of the long file")
    parser.add_argument("--six-hours", action="store_true", help="six hours too, with the standard chain")
    parser.add_argument("--folder", type=Path, help="where to put files, else where temporary ones go")
    parser.add_argument("--standard", action="store_true", help="the standard chain alone: reference, standard")
    parser.add_argument("--limit", type=float, default=1.15, help="times the memory of the short file that are allowed")
    args = parser.parse_args()
    if not Path("/proc/self/status").exists():
        sys.exit("this reads /proc/self/status, which only Linux has")

    standard = {work: names[:1] for work, names in CHAINS.items()}
    chains = standard if args.standard else CHAINS
    lengths = {args.short: chains, args.long: chains} | ({6 * 3600: standard} if args.six_hours else {})
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        needed = 10 * RATE * max(lengths)  # two WAV files and the sound units
        if (free := shutil.disk_usage(name).free) < needed:
            sys.exit(f"{free / 1e9:.1f} GB are free in {name}, {needed / 1e9:.1f} GB are needed: --folder")
        rows = {s: measure_length(Path(name), s, names) for s, names in lengths.items()}

    print("| |" + " | ".join(f" {s} s: MiB | x real time" + " | ratio" * (s != args.short) for s in lengths) + " |")
    print("|---|" + "---|" * (3 * len(lengths) - 1))
    largest = 0.0
    for key in [(work, name) for work, names in chains.items() for name in names]:
        line = f"| {key[0]}, `{key[1]}` |"
        for seconds, of_length in rows.items():
            if row := of_length.get(key):
                ratio = row["peak"] / rows[args.short][key]["peak"]
                largest = max(largest, ratio)
                line += f" {row['peak']:.0f} | {row['speed']:.0f} |" + f" {ratio:.3f} |" * (seconds != args.short)
            else:
                line += " – | – | – |"
        print(line)
    if largest > args.limit:
        print(f"a long file took {largest:.3f} times the memory, allowed {args.limit}", file=sys.stderr)
    return int(largest > args.limit)


if __name__ == "__main__":
    sys.exit(main())
