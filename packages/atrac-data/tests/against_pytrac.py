"""Hold the builtin teacher against a live pytrac on recordings of your own, in every field.

    python packages/atrac-data/tests/against_pytrac.py FOLDER [--json FILE]

Needs the real pytrac (github.com/aynik/pytrac) to be importable. Prints a row for each recording that differs anywhere,
then values equal and in all for each field, which docs/results.md states.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from atrac_bitstream import frames_for
from atrac_codec import read_audio
from atrac_data import BuiltinTeacher, PytracTeacher, scan

CHUNK = 512 * 512


def main() -> None:
    """Compare every recording of a folder; print rows and totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write the totals here")
    args = parser.parse_args()
    pytrac, builtin = PytracTeacher(), BuiltinTeacher()
    equal, total = Counter[str](), Counter[str]()
    for recording in scan(args.folder).recordings:
        pcm = read_audio(args.folder / recording.path)
        pcm = np.pad(pcm, ((0, 0), (0, 512 * frames_for(pcm.shape[1], 1) - pcm.shape[1])))
        chunks = [pcm[:, start : start + CHUNK] for start in range(0, pcm.shape[1], CHUNK)]
        wrong = []
        for ours, theirs in zip(builtin.frames(chunks), pytrac.frames(chunks), strict=True):
            for name, values in theirs.items():
                same = int((ours[name] == values).sum())
                equal[name] += same
                total[name] += values.size
                if same < values.size:
                    wrong.append(f"{name} {same} / {values.size}")
        if wrong:
            print(recording.path, *wrong, flush=True)
    for name in total:
        print(f"{name:20} {equal[name]:>12} / {total[name]:<12} {100 * equal[name] / total[name]:.4f} %")
    if args.json:
        args.json.write_text(json.dumps({name: [equal[name], total[name]] for name in total}, indent=1) + "\n")


if __name__ == "__main__":
    main()
