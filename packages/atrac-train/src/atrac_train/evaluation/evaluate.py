"""Compare encoders, or decoders, on recordings: every encoder's files through every decoder, in numbers.

    python apps/evaluate.py FOLDER [-o OUT] [--encoder NAME …] [--decoder NAME …] [--peer 'NAME=COMMAND {in} {out}' …]
        [--judge 'NAME=COMMAND {ref} {dec}' …] [--kinds FILE] [--report]

Encoders are presets and codec folders, NAME@fast or NAME@best with another effort, peers outside programs that make an
AEA file {out} of a 16-bit WAV file {in}. Decoders are `ffmpeg` (the default: nobody marks his own exam), ours by name,
and codec folders. Everybody gets the same 16-bit samples at 44.1 kHz. Of FOLDER the recordings of one split are taken.
The first pair of encoder and decoder is what the others are held against: means with bootstrap intervals, and how many
recordings they win.

A judge is an outside program that grades a decoded WAV file {dec} against its original {ref}: 24 bits, 44.1 kHz, two
channels, the codec's delay taken out. Its score is the number on the first line of its output that reads `NUMBER` or
`WORDS: NUMBER`; more is better. One that fails gives no score, which is counted.

The kind of content of a recording is said by a JSON file, pattern of paths to kind: FOLDER/kinds.json, if it is there
(apps/configs/kinds.json is for the recordings of docs/results.md). What no pattern fits is guessed by its sound. Speech
gets STOI and PESQ too, where their packages are installed.

OUT gets all numbers in evaluation.json (apps/evaluation/results.py has its schema). --report adds report.html, one file
with tables, pictures, and a player that switches between versions, also blind; and the pictures, in a folder.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from atrac_bitstream import AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import DEFAULT, read_audio
from atrac_codec.checkpoint import write_whole
from atrac_data import SPLITS, scan
from atrac_train.evaluation import coders, judges, scores
from atrac_train.evaluation.content import KINDS_FILE, SPEECH, guess, kind_of, read_kinds
from atrac_train.evaluation.outside import Program
from atrac_train.evaluation.panel import Panel, Pending
from atrac_train.evaluation.pictures import draw_bits
from atrac_train.evaluation.report import ORIGINAL, Media, write_report
from atrac_train.evaluation.results import SCHEMA, Evaluation, Item, Settings, versions
from atrac_train.evaluation.statistics import bits_by_encoder, summarise
from atrac_train.evaluation.tables import show


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="recordings, with a split.json or none")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, default=Path("evaluation"), help="(%(default)s)")
    parser.add_argument("--encoder", metavar="NAME", action="append", default=[], help=f"preset or folder ({DEFAULT})")
    parser.add_argument("--decoder", metavar="NAME", action="append", default=[], help=f"or folder ({coders.FFMPEG})")
    parser.add_argument("--peer", metavar="NAME=COMMAND", action="append", default=[], help="outside encoder")
    parser.add_argument("--judge", metavar="NAME=COMMAND", action="append", default=[], help="outside judge")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="test", help="(%(default)s)")
    parser.add_argument("--kinds", metavar="FILE", type=Path, help=f"kinds of content (FOLDER/{KINDS_FILE})")
    parser.add_argument("--shortest", metavar="S", type=float, default=0.0, help="seconds a recording must have (all)")
    parser.add_argument("--longest", metavar="S", type=float, default=0.0, help="seconds taken of a recording (all)")
    parser.add_argument("--report", action="store_true", help="write report.html and pictures")
    longest = "seconds of a recording to see and hear in the report (%(default)g)"
    parser.add_argument("--report-longest", metavar="S", type=float, default=10.0, help=longest)
    parser.add_argument("--device", default="cpu", help="where our encoders and decoders run (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Encode, decode, measure, print; the exit code is 1 if something could not be coded."""
    args = arguments(argv)
    try:
        evaluation, media = evaluate(args)
        args.output.mkdir(parents=True, exist_ok=True)
        evaluation.write(args.output / "evaluation.json")
        if args.report:
            write_media(evaluation, media, args.output)
    except (AtracError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    show(evaluation)
    print(", ".join(str(args.output / name) for name in ("evaluation.json", *["report.html"] * args.report)))
    return int(any(row.error for row in evaluation.rows))


def evaluate(args: argparse.Namespace) -> tuple[Evaluation, list[Media]]:
    """Code and measure all recordings. Raises: AtracError, OSError, ValueError: an argument or a recording is wrong."""
    for option, least in (("shortest", 0), ("longest", 0), ("report_longest", 0.1)):
        if not least <= (seconds := getattr(args, option)) < math.inf:
            raise ValueError(f"--{option.replace('_', '-')} {seconds}, allowed {least} s or more")
    device = torch.device(args.device)
    peers = [Program.of("--peer", text, coders.PLACES) for text in args.peer]
    asked = [Program.of("--judge", text, judges.PLACES) for text in args.judge]
    presets = args.encoder or ([] if args.peer else [DEFAULT])
    signs = scores.SCORES | scores.SPEECH_SCORES
    unique("--encoder and --peer", [ORIGINAL, *presets, *(peer.name for peer in peers)])
    unique("--judge", [*signs, *(judge.name for judge in asked)])
    encoders = {name: coders.preset_encoder(name, device) for name in presets}
    encoders |= {peer.name: coders.peer_encoder(peer) for peer in peers}
    decoders = {name: coders.decoder(name, device) for name in args.decoder or [coders.FFMPEG]}
    manifest = scan(args.folder)
    chosen = manifest.recordings if args.split == "all" else manifest.of(args.split)
    beside = args.folder / KINDS_FILE
    kinds = read_kinds(args.kinds or beside) if args.kinds or beside.exists() else {}
    lacking = scores.missing_speech_packages()
    speech = [name for name in scores.SPEECH_SCORES if name not in lacking]

    items: list[Item] = []
    pending: list[Pending] = []
    media: list[Media] = []
    columns, console = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()), Console(stderr=True)
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        tempfile.TemporaryDirectory() as scratch,
        judges.Bench(asked) as bench,
    ):
        shown = args.report_longest if args.report else 0.0
        panel = Panel(encoders, decoders, bench, speech, Path(scratch), shown)
        for recording in progress.track(chosen, description="recordings"):
            pcm = read_audio(args.folder / recording.path)
            if pcm.shape[1] < args.shortest * SAMPLE_RATE or not pcm.size:
                continue
            wav, original = panel.prepare(pcm[:, : int(args.longest * SAMPLE_RATE) or None])
            items.append(item_of(recording.path, original, kinds))
            measured, seen = panel.measure(items[-1], wav, original)
            pending += measured
            media += [seen] if seen else []
        rows = [one.settle() for one in pending]
    if not rows:
        raise ValueError(f"{args.folder}: no recordings of split {args.split} that are long enough")
    if spoken := any(item.kind == SPEECH for item in items):
        for name, package in lacking.items():
            print(f"{name} is left out: the package {package} is missing", file=sys.stderr)
    signs = scores.SCORES | {name: scores.SPEECH_SCORES[name] for name in speech if spoken}
    signs |= {judge.name: 1 for judge in asked}
    settings = Settings(
        split=args.split,
        shortest=args.shortest,
        longest=args.longest,
        encoders=presets,
        decoders=list(decoders),
        peers={peer.name: peer.command for peer in peers},
        judges={judge.name: judge.command for judge in asked},
        versions=versions(),
    )
    better: dict[str, Literal["more", "less"]] = {name: "more" if sign > 0 else "less" for name, sign in signs.items()}
    summary = summarise(rows, items, signs)
    return Evaluation(SCHEMA, settings, better, items, rows, bits_by_encoder(rows), summary), media


def unique(option: str, names: Sequence[str]) -> None:
    """Raises: ValueError: a name comes twice, so that results could not be told apart."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{option}: {twice[0]!r} comes twice or is taken, allowed once")


def item_of(path: str, original: NDArray[np.float32], kinds: Mapping[str, str]) -> Item:
    """Return a recording with its kind, said or guessed. Shape: [C, N]."""
    said = kind_of(path, kinds)
    seconds = round(original.shape[1] / SAMPLE_RATE, 3)
    return Item(path, seconds, len(original), said or guess(original), "file" if said else "guess")


def write_media(evaluation: Evaluation, media: Sequence[Media], output: Path) -> None:
    """Write the report, and its pictures by themselves. Raises: OSError."""
    pictures = {f"{one.recording}.png": one.picture for one in media}
    with tempfile.TemporaryDirectory() as scratch:
        bits = draw_bits(evaluation.bits, Path(scratch) / "bits.png").read_bytes() if evaluation.bits else b""
    for name, picture in (pictures | ({"bits.png": bits} if bits else {})).items():
        target = output / "pictures" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, picture)
    write_report(evaluation, media, bits, output / "report.html")


if __name__ == "__main__":
    sys.exit(main())
