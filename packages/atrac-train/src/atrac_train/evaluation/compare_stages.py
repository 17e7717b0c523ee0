"""Hold a codec against its teacher stage by stage: where in the chain does what deviate?

    python apps/compare_stages.py [FOLDER] [--encoder PRESET] [--decoder NAME] [--split SPLIT] [--longest S] [-o OUT]

The teacher is preset and decoder `bitexact`, which equal the reference codec. Column `alone` is what a stage makes of
the teacher's inputs, so what it adds by itself; column `chained` is what has come together by then on the candidate's
own way from the samples on. Values are compared by their signal to noise ratio to the teacher's, whole numbers by how
many are equal. Without FOLDER the built-in sounds are taken. OUT gets all numbers in
stages.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from atrac_bitstream import AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import AudioReader, NNFullCodec
from atrac_codec.trace import STAGE_OF_FIELD
from atrac_data import NAMES, SEEDS, SPLITS, render, scan
from atrac_train.evaluation.stages import BAND_NAMES, COLUMNS, COMPARABLE, MAIN, WHOLE, Comparison
from atrac_train.tracking import plain

TEACHER: Final = "bitexact"
SECONDS: Final = 10.0
"""Length of a built-in sound, unless `--longest` says another."""
Sound = tuple[str, Callable[[], Iterable[NDArray[np.float32]]]]
"""Name of a recording, and what gives its samples in blocks [C, n]."""


class Parser(argparse.ArgumentParser):
    """A command line whose mistakes are told as all others are."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError."""
        raise ValueError(message)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line. Raises: ValueError: it is wrong."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help="recordings (built-in sounds)")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, default=Path("stages"), help="(%(default)s)")
    parser.add_argument("--encoder", metavar="PRESET", default="neural-stages", help="or codec folder (%(default)s)")
    parser.add_argument("--decoder", metavar="NAME", default="neural-stages", help="or codec folder (%(default)s)")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="test", help="(%(default)s)")
    longest = f"seconds taken of a recording (all), or made of a built-in sound ({SECONDS:g})"
    parser.add_argument("--longest", metavar="S", type=float, default=0.0, help=longest)
    parser.add_argument("--device", default="cpu", help="where both codecs run (%(default)s)")
    args = parser.parse_args(argv)
    if not (args.longest == 0 or 1 / SAMPLE_RATE <= args.longest < math.inf):
        raise ValueError(
            f"--longest {args.longest}, allowed 0 for all, or seconds, a sample (1 / {SAMPLE_RATE}) or more"
        )
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Code everything with both, print the table, write numbers and picture; the exit code is 1 if it failed."""
    try:
        args = arguments(argv)
        device = found_device(args.device)
        teacher = NNFullCodec.from_pretrained(TEACHER, TEACHER).to(device)
        comparison = Comparison(teacher, NNFullCodec.from_pretrained(args.encoder, args.decoder).to(device))
        sounds = recordings(args.folder, args.split, args.longest)
        args.output.mkdir(parents=True, exist_ok=True)
        columns, console = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()), Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            for name, blocks in progress.track(sounds, description="recordings"):
                comparison.add(name, blocks())
        about = {
            "teacher": TEACHER,
            "encoder": args.encoder,
            "decoder": args.decoder,
            "recordings": len(comparison.samples),
            "seconds": round(sum(comparison.samples.values()) / SAMPLE_RATE, 3),
        }
        report = {**about, "fields": comparison.fields(), "original": comparison.original()}
        numbers = args.output / "stages.json"
        part = numbers.with_suffix(".part")
        part.write_text(json.dumps(plain(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        os.replace(part, numbers)
    except (AtracError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    show(report)
    print(numbers)
    return 0


def found_device(name: str) -> torch.device:
    """Return a device that is there. Raises: ValueError."""
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts that it has it
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error


def recordings(folder: Path | None, split: str, longest: float) -> list[Sound]:
    """List what is to be compared. Raises: ValueError, AtracError, OSError: there is nothing, or no folder."""

    def read(path: Path) -> Iterator[NDArray[np.float32]]:
        left = round(longest * SAMPLE_RATE) if longest else sys.maxsize
        with AudioReader(path) as reader:
            for block in reader.blocks():
                yield block[:, :left]
                left -= block.shape[1]
                if left <= 0:
                    return

    def rendered(name: str, seed: int) -> Iterator[NDArray[np.float32]]:
        yield render(name, seconds=longest or SECONDS, seed=seed)

    if folder is None:
        seeds = [seed for own in (SPLITS if split == "all" else (split,)) for seed in SEEDS[own]]
        pieces = [(name, seed) for seed in seeds for name in NAMES]
        return [(f"{name}-{seed:03d}", partial(rendered, name, seed)) for name, seed in pieces]
    manifest = scan(folder)
    chosen = manifest.recordings if split == "all" else manifest.of(split)
    if not chosen:
        raise ValueError(f"{folder}: no recordings of split {split}")
    return [(one.path, partial(read, folder / one.path)) for one in chosen]


def show(report: dict[str, Any]) -> None:
    """Print all fields in the order of the chain, and how near the decoded sounds are to the original."""
    title = f"encoder {report['encoder']}, decoder {report['decoder']}, held against teacher {report['teacher']}"
    heads = [head for column in COLUMNS for head in (column, " / ".join(BAND_NAMES), "worst")]
    table = Table("stage", "field", "measure", title=title)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right", style="bold" if i % 3 == 0 else "", no_wrap=True)
    before = ""
    for field, stage in STAGE_OF_FIELD.items():
        table.add_section()
        for i, (what, subset, measure, text) in enumerate(lines(field)):
            cells = [
                cell
                for column in COLUMNS
                for cell in in_cells(report["fields"][field].get(column, {}).get(subset), measure, text)
            ]
            table.add_row("" if i or stage == before else stage, "" if i else field, what, *cells)
        before = stage
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=160)
    console.print(table)
    original = Table("decoded sound to the original, SNR in dB", "teacher", "candidate", "difference")
    for what, row in (("all together", "together"), ("mean of recordings", "mean")):
        numbers = report["original"][row]
        original.add_row(what, *(f"{numbers[name]:.3f}" for name in ("teacher", "candidate", "difference")))
    console.print(original)
    units = report["fields"]["units"]["chained"]["all"]["values"]
    print(
        f"{report['recordings']} recordings, {report['seconds']:.0f} s, {units:,} sound units; worst of the recordings"
    )


def lines(field: str) -> Iterator[tuple[str, str, str, Callable[[float], str]]]:
    """Yield what the table says of a field: in words, of which subset, which measure, and how it is written."""
    main = MAIN.get(field, "all")
    where = "" if main == "all" else f", {main}"
    if field not in WHOLE:
        yield "SNR, dB", "all", "SNR (dB)", decibel
    else:
        yield f"equal, %{where}", main, "equal (%)", percent
    if field == "bsm":
        yield "F1", main, "F1", lambda value: f"{value:.3f}"
        for name in ("found", "missed", "invented"):
            yield f"short frames {name}", main, name, lambda value: f"{value:.0f}"
    elif field == "quantized":
        yield "of those with bits, %", main, "of those with bits (%)", percent
    elif subset := COMPARABLE.get(field):
        yield f"SNR, dB, {subset}", subset, "SNR (dB)", decibel
    if field in WHOLE - {"bsm", "units"}:
        yield "mean difference", main, "mean difference", lambda value: f"{value:.3g}"


def in_cells(numbers: dict[str, Any] | None, measure: str, text: Callable[[float], str]) -> list[str]:
    """Return what stands in a column: in all, by band, of the worst recording."""
    if not numbers:
        return ["–", "", ""]

    def cell(part: dict[str, Any] | None) -> str:
        value = (part or {}).get(measure)
        return "" if value is None else "–" if math.isnan(value) else text(value)

    bands = [cell(numbers.get(band)) for band in BAND_NAMES]
    return [cell(numbers), " / ".join(bands) if all(bands) else "", cell(numbers.get("worst"))]


def percent(value: float) -> str:
    """Write a share; 100 only if nothing is left out."""
    for digits in (2, 4):
        if value == 100 or float(text := f"{value:.{digits}f}") < 100:
            break
    return "100" if value == 100 else text if float(text) < 100 else "<100"


def decibel(value: float) -> str:
    """Write a signal to noise ratio."""
    return "equal" if value == math.inf else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
