"""Measure how much memory encoding and decoding take, and whether it depends on the length.

    python tests/measure_memory.py [--seconds S …] [--preset NAME] [--decoder NAME] [--json FILE]

Makes a WAV file in stereo of each length, encodes and decodes it, each in a process of its own, and reads that
process's peak of resident memory (VmHWM, so this needs Linux). The decoded file must have as many samples as the
original, and begin and end like it. The exit code is 1 if a longer file took more than --limit times the memory of the
first. An hour takes 1.5 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from atrac_train.tracking import write_json

RATE = 44100


def make(path: Path, seconds: int) -> None:
    """Write tones, noise and a click a second, the same every time and different in both channels."""
    rng = np.random.default_rng(seconds)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for second in range(seconds):
            time_axis = second + np.arange(RATE)[:, None] / RATE
            pcm = 0.2 * np.sin(2 * np.pi * np.array([440, 445]) * time_axis)
            pcm += 0.1 * np.sin(2 * np.pi * np.array([3000, 5000]) * time_axis) + 0.02 * rng.standard_normal((RATE, 2))
            pcm[20_000 + second % 997] += 0.5
            file.write(pcm)


def child(work: str, name: str, source: str, target: str) -> None:
    """Encode or decode, then print the number of samples, the peak of memory and the speed."""
    from atrac_codec import build_decoder, build_encoder, decode_file, encode_file

    start = time.perf_counter()
    if work == "encode":
        samples = encode_file(source, target, build_encoder(name)).samples
    else:
        samples = decode_file(source, target, build_decoder(name)).samples
    seconds = time.perf_counter() - start
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(
        json.dumps(
            {"samples": samples, "MiB": int(status["VmHWM"].split()[0]) / 1024, "speed": samples / RATE / seconds}
        )
    )


def run(work: str, name: str, source: Path, target: Path) -> dict[str, Any]:
    """Call `child` in a process of its own."""
    command = [sys.executable, __file__, "--child", work, name, str(source), str(target)]
    row: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return row


def alike(source: Path, decoded: Path) -> bool:
    """Return whether the first and the last second of two files are alike, and their lengths equal."""
    with soundfile.SoundFile(source) as before, soundfile.SoundFile(decoded) as after:
        same = before.frames == after.frames
        for start in (0, before.frames - RATE):
            pair = []
            for file in (before, after):
                file.seek(start)
                pair.append(file.read(RATE).T)
            same &= all(np.corrcoef(x, y)[0, 1] > 0.95 for x, y in zip(*pair, strict=True))
    return same


def main() -> int:
    """Measure every length; print and write the rows."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[60, 3600], help="lengths of the files")
    parser.add_argument("--preset", default="reference")
    parser.add_argument("--decoder", default="standard")
    parser.add_argument("--limit", type=float, default=1.15, help="times the memory of the first file that are allowed")
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source, aea, decoded = (Path(folder) / name for name in ("source.wav", "encoded.aea", "decoded.wav"))
        for seconds in args.seconds:
            make(source, seconds)
            for work, name, *paths in (("encode", args.preset, source, aea), ("decode", args.decoder, aea, decoded)):
                rows.append({"seconds": seconds, "work": work, "name": name, **run(work, name, *paths)})
                print(rows[-1])
            if not alike(source, decoded):
                sys.exit(f"{seconds} s: the decoded file is unlike the original")
    if args.json:
        write_json(args.json, {"rows": rows})
    first = {row["work"]: row["MiB"] for row in rows[:2]}
    return int(any(row["MiB"] > args.limit * first[row["work"]] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
