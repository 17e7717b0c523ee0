"""Measure the error of each stage of a codec against a teacher.

The teacher is preset and decoder `bitexact`, which equal the reference codec. Column `alone` is the error of a stage
that gets the teacher's fields; column `chained` is that of all stages so far, on the candidate's own way from the
samples on. OUT gets all numbers in stages.json.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from atrac_bitstream import AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import AudioReader, NNFullCodec
from atrac_data import NAMES, SEEDS, SPLITS, render
from atrac_train.evaluation.coders import found_device
from atrac_train.evaluation.recordings import ALL_SPLITS, of_split, tracked
from atrac_train.evaluation.stages import COLUMNS, Comparison
from atrac_train.tracking import write_json

TEACHER: Final = "bitexact"
SECONDS: Final = 10.0
"""Length of a built-in sound, unless --longest states another."""
Sound = tuple[str, Iterator[NDArray[np.float32]]]
"""Name of a recording, and its samples in blocks [C, n], which are read when they are asked for."""


@dataclass(frozen=True)
class Arguments:
    """The command line, see its help text."""

    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = None
    """Recordings; default: the built-in sounds."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")] = Path("stages")
    """Folder for stages.json."""
    encoder: Annotated[str, tyro.conf.arg(metavar="NAME")] = "neural-stages"
    """Preset or codec folder."""
    decoder: Annotated[str, tyro.conf.arg(metavar="NAME")] = "neural-stages"
    """Decoder or codec folder."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Recordings of the folder, or built-in sounds, to use."""
    longest: Annotated[float, tyro.conf.arg(metavar="S")] = 0.0
    """Seconds to use of a recording, 0 for all, or length of a built-in sound."""
    device: str = "cpu"
    """Device that runs both codecs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Code everything with both codecs, print the table and write the numbers; the exit code is 1 if that failed."""
    args = tyro.cli(Arguments, args=argv, description=__doc__)
    try:
        report = compare(args)
        write_json(args.output / "stages.json", report)
    except (AtracError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    show(report)
    print(args.output / "stages.json")
    return 0


def compare(args: Arguments) -> dict[str, Any]:
    """Make the folder for results, return settings and results.

    Raises: AtracError, OSError, ValueError: an argument or a recording is wrong.
    """
    if not (args.longest == 0 or 1 / SAMPLE_RATE <= args.longest < math.inf):
        raise ValueError(f"--longest {args.longest}, allowed 0 for all, or the seconds of a sample or more")
    device = found_device(args.device)
    teacher, candidate = (
        NNFullCodec.from_pretrained(*names).to(device) for names in ((TEACHER, TEACHER), (args.encoder, args.decoder))
    )
    sounds = recordings(args.folder, args.split, args.longest)
    args.output.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(teacher, candidate)
    for name, blocks in tracked(sounds, "recordings"):
        comparison.add(name, blocks)
    return {
        "teacher": TEACHER,
        "encoder": args.encoder,
        "decoder": args.decoder,
        "recordings": len(comparison.samples),
        "seconds": round(sum(comparison.samples.values()) / SAMPLE_RATE, 3),
        "fields": comparison.fields(),
        "original": comparison.original(),
    }


def recordings(folder: Path | None, split: str, longest: float) -> list[Sound]:
    """List the recordings to compare. Raises: ValueError, AtracError, OSError: there are none, or no folder."""
    if folder is not None:
        return [(one.path, _read(folder / one.path, longest)) for one in of_split(folder, split)]
    seeds = [seed for own in (SPLITS if split == ALL_SPLITS else (split,)) for seed in SEEDS[own]]
    return [(f"{name}-{seed:03d}", _rendered(name, seed, longest or SECONDS)) for seed in seeds for name in NAMES]


def _rendered(name: str, seed: int, seconds: float) -> Iterator[NDArray[np.float32]]:
    yield render(name, seconds=seconds, seed=seed)


def _read(path: Path, longest: float) -> Iterator[NDArray[np.float32]]:
    left = round(longest * SAMPLE_RATE) if longest else sys.maxsize
    with AudioReader(path) as reader:
        for block in reader.blocks():
            yield block[:, :left]
            left -= block.shape[1]
            if left <= 0:
                return


def show(report: dict[str, Any]) -> None:
    """Print all fields in the order of the chain, and the SNR of the decoded sounds to the original."""
    title = f"encoder {report['encoder']}, decoder {report['decoder']}, compared with teacher {report['teacher']}"
    table = Table("stage", "field", "measure", *COLUMNS, title=title)
    for field, own in report["fields"].items():
        for part, numbers in own["chained"].items():
            measure = next(name for name in numbers if name != "values")
            cells = [text(measure, own[column][part][measure]) if column in own else "–" for column in COLUMNS]
            table.add_row(*((own["stage"], field) if part == "all" else ("", "")), f"{measure}, {part}", *cells)
    mean = report["original"]["mean"]
    for codec in ("teacher", "candidate"):
        table.add_row("", "original", f"SNR (dB) of the sound of the {codec}, mean", "", text("SNR (dB)", mean[codec]))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=160)).print(table)
    units = report["fields"]["units"]["chained"]["all"]["values"]
    print(f"{report['recordings']} recordings, {report['seconds']:.0f} s, {units:,} sound units")


def text(measure: str, value: float) -> str:
    """Write a measure; a share reads 100 only if all values are equal."""
    if math.isnan(value):
        return "–"
    if value == math.inf:
        return "equal"
    if measure == "equal (%)":
        return "100" if value == 100 else f"{math.floor(value * 1e4) / 1e4:.4f}"
    return f"{value:.3f}" if measure == "F1" else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
