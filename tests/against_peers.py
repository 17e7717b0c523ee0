"""Who plays whose files, on your recordings: outside decoders on files of our presets, ours on those of outsiders.

    python tests/against_peers.py FOLDER --decoder 'atracdenc=atracdenc -d -i {in} -o {out}' \
        --encoder 'carta1=carta1 -e {in} {out}' [--split test] [--longest 10]

Decoders make a WAV file {out} of an AEA file {in}, encoders the other way round; pytrac takes part if it can be
imported, in a process of its own. Each is held against FFmpeg's decode of the same file: how many files came out whole,
how many crashed or were refused, and the largest difference over those that came out. Run by hand.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from atrac_codec import DECODERS, ENCODERS, build_decoder, build_encoder, decode_file, encode_file, read_audio
from atrac_codec.outside import ffmpeg_decode, load_pytrac
from atrac_data import scan

Coder = Callable[[Path, Path], None]


@dataclass
class Tally:
    """Files that came out whole, crashed or refused, shorter than they should be, and the largest difference."""

    whole: int = 0
    failed: int = 0
    short: int = 0
    largest: float = 0.0

    def compare(self, ours: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        n = min(ours.shape[1], truth.shape[1])
        self.whole += ours.shape == truth.shape
        self.short += ours.shape != truth.shape
        # 16-bit decoders cut at full scale.
        limit = [np.clip(x[:, :n], -1, 32767 / 32768) for x in (ours, truth)]
        self.largest = max(self.largest, float(np.abs(limit[0] - limit[1]).max()))


def program(command: str) -> Coder:
    """Return what runs a command with {in} and {out}."""

    def run(source: Path, target: Path) -> None:
        parts = [part.replace("{in}", str(source)).replace("{out}", str(target)) for part in shlex.split(command)]
        subprocess.run(parts, check=True, capture_output=True, timeout=300)

    return run


def main() -> int:
    """Code everything, print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--decoder", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--preset", action="append", default=[], help="of ours (all)")
    parser.add_argument("--split", default="test")
    parser.add_argument("--longest", type=float, default=10.0, help="seconds taken of a recording")
    args = parser.parse_args()
    others = {name: program(command) for name, command in (text.split("=", 1) for text in args.decoder)}
    peers = {name: program(command) for name, command in (text.split("=", 1) for text in args.encoder)}
    try:
        load_pytrac()
        code = "import pytrac, sys; pytrac.decode_file(*sys.argv[1:])"
        others["pytrac.decode_file"] = program(shlex.join([sys.executable, "-c", code]) + " {in} {out}")
    except ImportError as error:
        print(error, file=sys.stderr)
    ours = {name: build_decoder(name) for name in DECODERS}
    encoders = {name: build_encoder(name) for name in args.preset or ENCODERS}
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    with tempfile.TemporaryDirectory() as scratch:
        wav, aea, out = (Path(scratch) / name for name in ("in.wav", "x.aea", "out.wav"))
        for recording in scan(args.folder).of(args.split):
            pcm = read_audio(args.folder / recording.path)[:, : int(44100 * args.longest)]
            soundfile.write(wav, np.clip(pcm, -1, 32767 / 32768).T, 44100, "PCM_16")
            for name in (*encoders, *peers):
                aea.unlink(missing_ok=True)
                if name in encoders:
                    encode_file(wav, aea, encoders[name])
                else:
                    peers[name](wav, aea)
                truth = ffmpeg_decode(aea.read_bytes()).astype(np.float32)
                for decoder in (*ours, *(others if name in encoders else ())):
                    out.unlink(missing_ok=True)
                    try:
                        if decoder in ours:
                            decode_file(aea, out, ours[decoder], samples="float", keep_delay=True)
                        else:
                            others[decoder](aea, out)
                        tallies[name, decoder].compare(read_audio(out), truth)
                    except (OSError, subprocess.SubprocessError, ValueError) as error:
                        tallies[name, decoder].failed += 1
                        print(f"{recording.path}, {name} to {decoder}: {error}", file=sys.stderr)
    print("| files of | decoded by | whole | crashed or refused | another length | largest difference to FFmpeg |")
    print("|---|---|---|---|---|---|")
    for (name, decoder), tally in tallies.items():
        print(f"| {name} | {decoder} | {tally.whole} | {tally.failed} | {tally.short} | {tally.largest:.1e} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
