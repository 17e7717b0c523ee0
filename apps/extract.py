"""Extract ground truth: what an encoder and a decoder make of every frame of a folder of recordings, in shards.

    python apps/extract.py [IN] -o OUT
    accelerate launch apps/extract.py [IN] -o OUT         several processes share the recordings

Without IN the built-in corpus is rendered and taken. OUT gets a folder of shards for each split and a report: counts,
hours, statistics and histograms of every field, and the round trip of a sample recording in numbers, as a picture and
to listen to. What was interrupted goes on where it was when it is called again.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from atrac_bitstream import AtracError
from atrac_data import (
    Augmentation,
    BuiltinTeacher,
    Manifest,
    PytracTeacher,
    Settings,
    Teacher,
    corpus_manifest,
    extract,
    plan,
    scan,
    write_corpus,
)

TEACHERS = {"builtin": BuiltinTeacher, "pytrac": PytracTeacher}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="IN", nargs="?", type=Path, help="recordings; default: the built-in corpus")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder for shards and report")
    parser.add_argument("--split", metavar="FILE", type=Path, help="recording to split (IN/split.json, else by hash)")
    parser.add_argument("--licences", metavar="FILE", type=Path, help="pattern to licence (IN/licences.json)")
    parser.add_argument("--teacher", choices=TEACHERS, default="builtin", help="who shows the fields (%(default)s)")
    parser.add_argument("--fields", metavar="A,B,…", default="", help="fields to write (all that the teacher gives)")
    parser.add_argument("--shard-seconds", metavar="S", type=float, default=60.0, help="audio of a shard (%(default)s)")
    parser.add_argument("--corpus-seconds", metavar="S", type=float, default=10.0, help="of a built-in sound (10)")
    parser.add_argument("--no-report", action="store_true", help="write shards only")
    group = parser.add_argument_group("augmentation, of the train split alone")
    group.add_argument("--variants", metavar="N", type=int, default=1, help="times each recording is taken (1)")
    group.add_argument("--offset", action="store_true", help="drop up to 511 samples, so that frames fall elsewhere")
    group.add_argument("--gain", metavar=("LOW", "HIGH"), nargs=2, type=float, default=(0.0, 0.0), help="dB")
    group.add_argument("--mix", metavar="P", type=float, default=0.0, help="probability of adding another recording")
    group.add_argument("--mix-level", metavar=("LOW", "HIGH"), nargs=2, type=float, default=(-20.0, 0.0), help="dB")
    group.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        args.settings = Settings(
            tuple(filter(None, args.fields.split(","))),
            args.shard_seconds,
            Augmentation(args.offset, tuple(args.gain), args.mix, tuple(args.mix_level)),
            args.variants,
            args.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    if args.folder is not None and args.output.resolve().is_relative_to(args.folder.resolve()):
        parser.error(f"{args.output} lies in {args.folder}, whose recordings are to be read")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Extract and report; return the exit code."""
    args = arguments(argv)
    # Ranks wait for the slowest one, which may take longer than the half hour that they would by default.
    state = PartialState(cpu=True, timeout=datetime.timedelta(days=30))
    try:
        run(args, state)
    except (AtracError, OSError, ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    state.destroy_process_group()
    return 0


def run(args: argparse.Namespace, state: PartialState) -> None:
    """Do what the command line asks for, or this rank's share of it."""
    rank, world = state.process_index, state.num_processes
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn(),
        console=Console(stderr=True), disable=rank > 0, transient=True,
    )  # fmt: skip
    teacher: Teacher = TEACHERS[args.teacher]()
    with progress:
        manifest = recordings(args, state, progress)
        plans = plan(manifest, args.settings)
        share = sum(one.seconds for one in plans[rank::world])
        task = progress.add_task("extracting" + (f" (rank {rank} of {world})" if world > 1 else ""), total=share)
        if rank == 0:
            total = sum(one.seconds for one in plans)
            print(
                f"{len(manifest.recordings)} recordings, {total / 60:.1f} minutes in {len(plans)} shards, "
                f"teacher {teacher.name}, {world} {'ranks' if world > 1 else 'rank'}",
                file=sys.stderr,
            )
        written = extract(
            manifest, teacher, args.output, args.settings, rank=rank, world=world,
            progress=lambda seconds: progress.advance(task, seconds),
        )  # fmt: skip
    print(f"rank {rank}: {len(written)} shards written, {len(plans[rank::world]) - len(written)} were there")
    state.wait_for_everyone()
    if rank == 0 and not args.no_report:
        from extraction_report import write_report

        with Console(stderr=True).status("reporting"):
            report = write_report(args.output, [args.output / one.path for one in plans])
        terminal = Console()
        report.show(terminal if terminal.is_terminal else Console(width=120))


def recordings(args: argparse.Namespace, state: PartialState, progress: Progress) -> Manifest:
    """Find the recordings; the first rank renders the built-in ones."""
    if args.folder is not None:
        return scan(args.folder, split_file=args.split, licence_file=args.licences)
    manifest = corpus_manifest(args.output / "corpus")
    if state.is_main_process:
        task = progress.add_task("rendering", total=args.corpus_seconds * len(manifest.recordings))
        write_corpus(
            manifest.folder, seconds=args.corpus_seconds, progress=lambda seconds: progress.advance(task, seconds)
        )
    state.wait_for_everyone()
    return manifest


if __name__ == "__main__":
    sys.exit(main())
