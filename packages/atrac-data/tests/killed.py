"""Kill an extraction at every recording and at every file that it completes: a program of its own, so that it can fork.

    python killed.py RECORDINGS SCRATCH

Prints one line of JSON for each kill: whether it was killed, what lay there afterwards, whether every shard with an
index was right, and whether running it again gave what an undisturbed extraction gives.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from atrac_data import Settings, extract, scan


class Teacher:
    """Gives the samples themselves, which is quick."""

    name, fields = "samples", ("pcm",)

    def frames(self, chunks: Any) -> Iterator[dict[str, Any]]:
        """Yield each chunk as frames."""
        for chunk in chunks:
            yield {"pcm": chunk.reshape(len(chunk), -1, 512)}


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def killing(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    """Return a function whose given call, counted from 0, kills the process before it does anything."""
    calls = itertools.count()

    def counting(*arguments: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return counting


def main(recordings: Path, scratch: Path) -> None:
    """Extract undisturbed, then be killed before each recording and before each replacement of a file."""
    manifest = scan(recordings)

    def run(folder: Path) -> None:
        extract(manifest, Teacher(), folder, Settings(shard_seconds=0.5))

    run(scratch / "truth")
    truth = contents(scratch / "truth")
    moments = [("recording", call) for call in range(len(manifest.recordings))]
    moments += [("file", call) for call in range(len(truth))]
    for kind, call in moments:
        folder = scratch / f"{kind}-{call}"
        if (child := os.fork()) == 0:
            if kind == "file":
                os.replace = killing(os.replace, call)
            else:
                Teacher.frames = killing(Teacher.frames, call)  # type: ignore[method-assign]
            run(folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        left = contents(folder)
        right = all(left[name] == truth[name] for name in left if f"{name.rpartition('.')[0]}.json" in left)
        run(folder)
        found = {
            "killed": os.WIFSIGNALED(status),
            "left": list(left),
            "right": right,
            "same": contents(folder) == truth,
        }
        print(json.dumps({"moment": f"{kind} {call}", **found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
