"""Kill an extraction ten times, and before each kind of replacement: a program of its own, so that it can fork.

    python killed.py RECORDINGS SCRATCH

Prints a line of JSON per kill: the moment, whether it came in time, what lay there afterwards, and whether all that
counts as finished was right; then one on whether the folder came out the same.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from atrac_data import BuiltinTeacher, Settings, extract, scan

MOMENTS = 10
SEED = 20261122


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def written(folder: Path) -> int:
    """Count the bytes there are, while files come and go."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def main(recordings: Path, scratch: Path) -> None:
    """Extract undisturbed, then be killed at ten random numbers of bytes and before three replacements."""
    teacher, manifest = BuiltinTeacher(), scan(recordings)

    def run(folder: Path) -> None:
        extract(manifest, teacher, folder, Settings(shard_seconds=0.5))

    def kill(folder: Path, moment: str, threshold: float, prepare: Callable[[], None] = lambda: None) -> None:
        """Extract in a child, kill it when the folder holds that many bytes, and say what it left."""
        if (child := os.fork()) == 0:
            prepare()
            run(folder)
            os._exit(0)
        done, status = 0, 0
        while not done:
            if written(folder) >= threshold:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.0005)
            done, status = os.waitpid(child, os.WNOHANG)
        left = contents(folder)
        finished = {name for name in left if f"{name.rpartition('.')[0]}.json" in left}
        right = all(left[name] == truth[name] for name in finished)
        print(
            json.dumps({"moment": moment, "killed": os.WIFSIGNALED(status), "left": sorted(left), "right": right}),
            flush=True,
        )

    run(scratch / "truth")
    truth = contents(scratch / "truth")
    total, rng = sum(map(len, truth.values())), random.Random(SEED)
    folder = scratch / "killed"
    for threshold in sorted(rng.random() * total for _ in range(MOMENTS)):
        kill(folder, f"byte {threshold:.0f}", threshold)

    real = os.replace
    for call in (1, 2, 3):

        def prepare(call: int = call) -> None:
            calls = iter(range(1, call))

            def replace(source: Path, target: Path) -> None:
                if next(calls, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                real(source, target)

            os.replace = replace  # type: ignore[assignment]

        kill(scratch / f"replacement {call}", f"replacement {call}", float("inf"), prepare)

    for other in sorted(scratch.iterdir()):
        run(other)
        print(json.dumps({"moment": "end", "same": contents(other) == truth}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
