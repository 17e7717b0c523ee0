"""Extract ground truth: what an encoder and a decoder make of every frame of a folder of recordings, in shards.

    python apps/extract.py [IN] -o OUT
    accelerate launch apps/extract.py [IN] -o OUT         several processes share the recordings

Without IN the built-in corpus is rendered and used. OUT gets a folder of shards for each split, and report.json: counts
and a check of every shard. An interrupted extraction goes on where it was when the same command is called again.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from accelerate import PartialState
from rich.console import Console
from rich.progress import Progress

import atrac_data as data
from atrac_bitstream import AtracError


@dataclass(frozen=True)
class Arguments:
    """The command line, see its help text."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    """Folder for shards and report."""
    settings: tyro.conf.OmitArgPrefixes[tyro.conf.FlagCreatePairsOff[data.Settings]]
    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="IN")] = None
    """Recordings; default: the built-in corpus."""
    split: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON file, recording to split; default: IN/split.json, else by a hash of the path."""
    licences: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON file, pattern to licence; default: IN/licences.json."""
    teacher: Literal["builtin", "pytrac"] = "builtin"
    """Codec that gives the fields."""
    corpus_seconds: float = 10.0
    """Length of each built-in sound."""

    def __post_init__(self) -> None:
        if self.folder is not None and self.output.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{self.output} lies in {self.folder}, whose recordings are to be read")


def main(argv: Sequence[str] | None = None) -> int:
    """Extract and report; return the exit code."""
    args = tyro.cli(Arguments, args=argv, description=__doc__)
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


def run(args: Arguments, state: PartialState) -> None:
    """Extract this rank's share; the first rank reports when all are done."""
    rank, world = state.process_index, state.num_processes
    teacher = data.BuiltinTeacher() if args.teacher == "builtin" else data.PytracTeacher()
    with Progress(console=Console(stderr=True), disable=rank > 0, transient=True) as progress:
        manifest = recordings(args, state, progress)
        plans = data.plan(manifest, args.settings)
        task = progress.add_task("extracting", total=sum(one.seconds for one in plans[rank::world]))
        if rank == 0:
            minutes = sum(one.seconds for one in plans) / 60
            counts = f"{len(manifest.recordings)} recordings, {minutes:.1f} minutes in {len(plans)} shards"
            print(f"{counts}, teacher {teacher.name}, ranks: {world}", file=sys.stderr)
        written = data.extract(
            manifest, teacher, args.output, args.settings, rank=rank, world=world,
            progress=lambda seconds: progress.advance(task, seconds),
        )  # fmt: skip
    print(f"rank {rank}: {len(written)} shards written, {len(plans[rank::world]) - len(written)} were there")
    state.wait_for_everyone()
    if rank == 0:
        data.remove_unfinished(args.output)
        print(data.as_text(data.write_report(args.output)))


def recordings(args: Arguments, state: PartialState, progress: Progress) -> data.Manifest:
    """Find the recordings; the first rank renders the built-in ones."""
    if args.folder is not None:
        return data.scan(args.folder, split_file=args.split, licence_file=args.licences)
    manifest = data.corpus_manifest(args.output / "corpus")
    if state.is_main_process:
        task = progress.add_task("rendering", total=args.corpus_seconds * len(manifest.recordings))
        data.write_corpus(
            manifest.folder, seconds=args.corpus_seconds, progress=lambda seconds: progress.advance(task, seconds)
        )
    state.wait_for_everyone()
    return manifest


if __name__ == "__main__":
    sys.exit(main())
