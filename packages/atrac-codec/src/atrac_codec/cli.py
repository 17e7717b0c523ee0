"""The `atrac1` command: encode, decode, info, repair, compare.

Results go to standard output, everything else to standard error. Exit codes: 0 success, 1 a file failed, 2 the command
line is wrong, 130 and 143 stopped by the user (SIGINT, SIGTERM). Existing files are kept unless `--force` is given.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, Positional, arg

from atrac_bitstream import POLICIES, AeaHeader, AtracError, read_info, repair_file
from atrac_codec import batch

T = TypeVar("T")
Inputs = Annotated[tuple[str, ...], Positional, arg(metavar="IN...", help="Files and folders; - for standard input.")]
Output = Annotated[str | None, arg(aliases=["-o"], metavar="OUT")]
Raw = Annotated[Literal[1, 2] | None, arg(metavar="CHANNELS", help="The files are sound units without a header.")]
Flag = Annotated[bool, FlagCreatePairsOff]
Force = Annotated[bool, FlagCreatePairsOff, arg(help="Replace existing files.")]
Json = Annotated[bool, FlagCreatePairsOff, arg(name="json", help="Print one JSON object per line.")]


@dataclass(frozen=True)
class Encode:
    """Encode audio files to ATRAC1 (.aea).

    Anything libsndfile reads, at any sampling rate, mono or stereo; folders are searched for such files.
    """

    inputs: Inputs
    output: Output = None
    """File for one input file, else folder; - for standard output. Default: beside each input."""
    preset: Annotated[str | None, arg(metavar="NAME|FOLDER")] = None
    """Encoder, or a trained codec folder; default: neural. bitexact writes the same bytes as the reference codec."""
    effort: Literal["fast", "default", "best"] = "default"
    """Care about the lengths of blocks: best makes preset neural try both, fast keeps rd from it."""
    title: Annotated[str | None, arg(metavar="TEXT")] = None
    """Title; default: the input's title tag, or else its name."""
    no_length_tag: Flag = False
    """Do not write the number of samples (decoding then returns whole frames, with silence at the end)."""
    force: Force = False

    def run(self) -> int:
        """Encode every input."""
        from atrac_codec.audio import SUFFIXES
        from atrac_codec.files import audio_duration, encode_file
        from atrac_codec.presets import DEFAULT, build_encoder, searches
        from atrac_runtime.kernels.compiled import is_compiled

        preset = self.preset or DEFAULT
        encoder = _built(preset, lambda: build_encoder(preset, self.effort))
        if searches(encoder.allocator) and not is_compiled():
            batch.errors.print("preparing the search for this machine; this takes some seconds, once")

        def one(source: str, target: str, progress: Callable[[float], None]) -> None:
            files = batch.readable(source), batch.writable(target)
            tag = not self.no_length_tag
            report = encode_file(*files, encoder, title=self.title, length_tag=tag, progress=progress)
            batch.warn(source, report.warnings())

        return batch.run_each(self.inputs, self.output, ".aea", SUFFIXES, self.force, one, audio_duration)


@dataclass(frozen=True)
class Decode:
    """Decode ATRAC1 files (.aea) to audio files.

    A file with a length tag gives exactly the samples that were encoded, any other all samples that it holds.
    """

    inputs: Inputs
    output: Output = None
    """File for one input file, whose ending names the format, else folder; - for WAV to standard output.
    Default: a WAV file beside each input."""
    decoder: Annotated[str, arg(metavar="NAME|FOLDER")] = "standard"
    """Decoder, or a trained codec folder. bitexact returns the same samples as the reference codec; neural is closer to
    the original than standard, for files of the reference codec."""
    samples: Literal["16", "24", "float"] = "16"
    """Sample format."""
    keep_delay: Flag = False
    """Write all samples of all frames, with the codec's delay of 266 samples, as other decoders do."""
    damage: Literal["raise", "silence", "repeat"] = "raise"
    """Unreadable sound units: stop with an error, or put silence or the unit before in their place."""
    raw: Raw = None
    force: Force = False

    def run(self) -> int:
        """Decode every input."""
        from atrac_codec.files import aea_duration, decode_file
        from atrac_codec.presets import build_decoder

        decoder = _built(self.decoder, lambda: build_decoder(self.decoder))

        def one(source: str, target: str, progress: Callable[[float], None]) -> None:
            report = decode_file(
                batch.readable(source),
                batch.writable(target),
                decoder,
                samples=self.samples,
                keep_delay=self.keep_delay,
                damage=POLICIES[self.damage](),
                header=_header(self.raw),
                progress=progress,
            )
            batch.warn(source, report.warnings())

        return batch.run_each(self.inputs, self.output, ".wav", {".aea"}, self.force, one, aea_duration)


@dataclass(frozen=True)
class Repair:
    """Copy ATRAC1 files (.aea), replacing unreadable sound units and correcting the header's count.

    All other bits stay as they are. The copy of a file without a header gets one.
    """

    inputs: Inputs
    output: Annotated[str, arg(aliases=["-o"], metavar="OUT")]
    """File for one input file, else folder; - for standard output."""
    damage: Literal["silence", "repeat"] = "silence"
    """What to put in the place of a damaged sound unit: silence, or the unit before it."""
    raw: Raw = None
    force: Force = False

    def run(self) -> int:
        """Repair every input."""

        def one(source: str, target: str, progress: Callable[[float], None]) -> None:
            files = batch.readable(source), batch.writable(target)
            report = repair_file(*files, POLICIES[self.damage](), header=_header(self.raw))
            batch.errors.print(escape(f"{source}: {report}"))

        return batch.run_each(self.inputs, self.output, ".aea", {".aea"}, self.force, one)


@dataclass(frozen=True)
class Info:
    """Describe ATRAC1 files (.aea). The exit code is 1 if a sound unit cannot be read."""

    inputs: Inputs
    raw: Raw = None
    as_json: Json = False

    def run(self) -> int:
        """Describe every input."""
        status = 0
        if not (found := list(batch.find(self.inputs, {".aea"}))):
            return batch.nothing_found(self.inputs, {".aea"})
        for source, _ in found:
            try:
                facts = read_info(batch.readable(source), header=_header(self.raw))
            except (AtracError, OSError) as error:
                status = batch.fail(source, error)
                continue
            status = status or int(bool(facts.damages))
            if self.as_json:
                print(json.dumps({"file": source, **asdict(facts)}))
            else:
                _print_table(facts.lines(), source)
        return status


@dataclass(frozen=True)
class Compare:
    """Compare an audio file with a decoded one (or an .aea file, which is decoded first)."""

    reference: Annotated[str, Positional, arg(metavar="REF")]
    """The original."""
    decoded: Annotated[str, Positional, arg(metavar="DEC")]
    """The decoded recording."""
    as_json: Json = False

    def run(self) -> int:
        """Print measures of the difference."""
        from atrac_codec.compare import SourceError, compare

        sources = self.reference, self.decoded
        try:
            scores = compare(*map(batch.readable, sources))
        except SourceError as error:
            return batch.fail(sources[error.place], error.cause)
        except ValueError as error:
            return batch.fail(", ".join(sources), error)
        if self.as_json:
            print(json.dumps(scores))
        else:
            _print_table((name, str(n) if isinstance(n, int) else f"{n:.4g}") for name, n in scores.items())
        return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    commands = Annotated[Encode, tyro.conf.subcommand("encode")] | Annotated[Decode, tyro.conf.subcommand("decode")]
    commands |= Annotated[Info, tyro.conf.subcommand("info")] | Annotated[Repair, tyro.conf.subcommand("repair")]
    commands |= Annotated[Compare, tyro.conf.subcommand("compare")]
    try:
        command = tyro.cli(commands, args=argv, prog="atrac1", description=__doc__)
        with batch.stoppable():
            status = command.run()
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except OSError as error:  # errors of the files of the command line are handled by the commands
        if not batch.is_unnamed(error):
            return batch.fail("atrac1", error)
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # otherwise flushing the rest at exit would fail again
        return batch.fail("standard output", error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt as stop:
        batch.errors.print("stopped; nothing is left of the file that was being written")
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)


def _built(name: str, build: Callable[[], T]) -> T:
    """Build an encoder or a decoder. Raises: SystemExit: it cannot be built; the error is printed."""
    try:
        return build()
    except ValueError as error:
        sys.exit(batch.wrong(error))
    except (AtracError, OSError) as error:
        sys.exit(batch.fail(name, error))


def _header(raw: int | None) -> AeaHeader | None:
    return None if raw is None else AeaHeader.make(raw)


def _print_table(rows: Iterable[tuple[str, str]], title: str = "") -> None:
    console, table = Console(highlight=False, soft_wrap=True), Table(box=None, show_header=False)
    for name, text in rows:
        table.add_row(name, escape(text))
    if title:
        console.print(escape(title))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
