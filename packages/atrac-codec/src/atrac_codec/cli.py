"""The `atrac1` command: encode, decode, info, repair, compare.

Results go to standard output, everything else to standard error. Exit codes: 0 all done, 1 some file failed, 2 the
command line is wrong, 130 and 143 stopped by the user (SIGINT, SIGTERM). Existing files are kept unless `--force` is
given.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atrac_bitstream import POLICIES, AeaHeader, AtracError, describe_damage, read_info, repair_file
from atrac_codec.batch import (
    STREAM,
    errors,
    fail,
    find,
    is_unnamed,
    nothing_found,
    readable,
    run_each,
    stoppable,
    warn,
    writable,
    wrong,
)

Inputs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN...")]
Output = Annotated[str | None, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Raw = Annotated[Literal[1, 2] | None, tyro.conf.arg(metavar="CHANNELS")]


@dataclass(frozen=True)
class Encode:
    """Encode audio files to ATRAC1 (.aea).

    Anything libsndfile reads, at any sampling rate, mono or stereo; folders are searched for such files.
    """

    inputs: Inputs
    """Files and folders; - for standard input."""
    output: Output = None
    """File for one input file, else folder; - for standard output. Default: beside each input."""
    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME|FOLDER")] = None
    """Encoder, or a codec folder of your own; default: neural. bitexact writes the same bytes as the
    reference codec."""
    effort: Literal["fast", "default", "best"] = "default"
    """How long to search for the best use of the bits, with presets that do: rd and neural."""
    title: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Title; default: the input's title tag, or else its name."""
    no_length_tag: Flag = False
    """Do not write the number of samples (decoding then returns whole frames, with silence at the end)."""
    force: Flag = False
    """Replace existing files."""

    def run(self) -> int:
        """Encode every input."""
        from atrac_codec.audio import SUFFIXES, AudioReader
        from atrac_codec.files import encode_file
        from atrac_codec.presets import DEFAULT, build_encoder

        try:
            encoder = build_encoder(self.preset or DEFAULT, self.effort)
        except ValueError as error:
            return wrong(error)
        except (AtracError, OSError) as error:
            return fail(self.preset or DEFAULT, error)

        def one(source: str, target: str, progress: Callable[[float], None]) -> None:
            report = encode_file(
                readable(source),
                writable(target),
                encoder,
                title=self.title,
                length_tag=not self.no_length_tag,
                progress=progress,
            )
            if report.over:
                warn(
                    f"{source}: {report.over} samples over full scale, the largest {report.peak:.3f}; "
                    "what the scale factors cannot hold is clipped"
                )

        def duration(source: str) -> float | None:
            if source == STREAM or Path(source).is_fifo():  # what is read from a pipe is gone
                return None
            with AudioReader(source) as reader:
                return reader.duration

        return run_each(self.inputs, self.output, ".aea", SUFFIXES, self.force, one, duration)


@dataclass(frozen=True)
class Decode:
    """Decode ATRAC1 files (.aea) to audio files.

    A file with a length tag gives exactly the samples that were encoded, any other all samples that it holds.
    """

    inputs: Inputs
    """Files and folders; - for standard input."""
    output: Output = None
    """File for one input file, its ending naming the format, else folder; - for WAV to standard output.
    Default: a WAV file beside each input."""
    decoder: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = "standard"
    """Decoder, or a codec folder of your own: standard; bitexact for the very samples of the reference codec; neural
    for sound nearer to the original than the standard's, in files of the reference codec."""
    samples: Literal["16", "24", "float"] = "16"
    """Sample format."""
    keep_delay: Flag = False
    """Write all samples of all frames, with the codec's delay of 266 samples, as other decoders do."""
    damage: Literal["raise", "silence", "repeat"] = "raise"
    """What to do with sound units that cannot be read: raise an error, or put silence or the unit before there."""
    raw: Raw = None
    """The files have no header: nothing but sound units, of 1 or 2 channels."""
    force: Flag = False
    """Replace existing files."""

    def run(self) -> int:
        """Decode every input."""
        from atrac_codec.files import decode_file
        from atrac_codec.presets import build_decoder

        try:
            decoder = build_decoder(self.decoder)
        except ValueError as error:
            return wrong(error)
        except (AtracError, OSError) as error:
            return fail(self.decoder, error)

        def one(source: str, target: str, progress: Callable[[float], None]) -> None:
            report = decode_file(
                readable(source),
                writable(target),
                decoder,
                samples=self.samples,
                keep_delay=self.keep_delay,
                damage=POLICIES[self.damage](),
                header=_header(self.raw),
                progress=progress,
            )
            if report.damages:
                warn(f"{source}: damaged sound units: {describe_damage(report.damages)}")
            if report.clipped:
                warn(f"{source}: {report.clipped} samples over full scale were clipped; --samples float keeps them")
            if report.missing:
                warn(f"{source}: {report.missing} samples that its length tag counts are missing")

        def duration(source: str) -> float | None:
            return None if source == STREAM else Path(source).stat().st_size / (2 * 212) * 512 / 44100

        return run_each(self.inputs, self.output, ".wav", {".aea"}, self.force, one, duration)


@dataclass(frozen=True)
class Repair:
    """Copy ATRAC1 files (.aea), replacing sound units that cannot be read and setting the header's count right.

    All other bits stay as they are.
    """

    inputs: Inputs
    """Files and folders; - for standard input."""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="OUT")]
    """File for one input file, else folder; - for standard output."""
    damage: Literal["silence", "repeat"] = "silence"
    """What to put in the place of a damaged sound unit: silence, or the unit before it."""
    raw: Raw = None
    """The files have no header: nothing but sound units, of 1 or 2 channels. The copies get one."""
    force: Flag = False
    """Replace existing files."""

    def run(self) -> int:
        """Repair every input."""

        def one(source: str, target: str, progress: Callable[[float], None]) -> None:
            report = repair_file(readable(source), writable(target), POLICIES[self.damage](), header=_header(self.raw))
            errors.print(escape(f"{source}: {report}"))

        return run_each(self.inputs, self.output, ".aea", {".aea"}, self.force, one, lambda source: None)


@dataclass(frozen=True)
class Info:
    """Describe ATRAC1 files (.aea). The exit code is 1 if some sound unit cannot be read."""

    inputs: Inputs
    """Files and folders; - for standard input."""
    raw: Raw = None
    """The files have no header: nothing but sound units, of 1 or 2 channels."""
    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """One JSON object per file and line."""

    def run(self) -> int:
        """Describe every input."""
        console = Console(highlight=False, soft_wrap=True)
        status = 0
        if not (found := list(find(self.inputs, {".aea"}))):
            return nothing_found(self.inputs, {".aea"})
        for source, _ in found:
            try:
                facts = read_info(readable(source), header=_header(self.raw))
            except (AtracError, OSError) as error:
                status = fail(source, error)
                continue
            status = status or int(bool(facts.damages))
            if self.as_json:
                print(json.dumps({"file": source, **asdict(facts)}))
                continue
            console.print(escape(source))
            table = Table(box=None, show_header=False)
            for name, text in facts.lines():
                table.add_row(name, escape(text))
            console.print(table)
        return status


@dataclass(frozen=True)
class Compare:
    """Compare an audio file with a decoded one (or an .aea, which is decoded first)."""

    reference: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REF")]
    """The original."""
    decoded: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DEC")]
    """What became of it."""
    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """One JSON object."""

    def run(self) -> int:
        """Print levels of the difference."""
        from atrac_codec.compare import SourceError, compare

        sources = self.reference, self.decoded
        try:
            scores = compare(*map(readable, sources))
        except SourceError as error:
            return fail(sources[error.place], error.cause)
        except ValueError as error:
            return fail(", ".join(sources), error)
        if self.as_json:
            print(json.dumps(scores))
        else:
            table = Table("measure", "value", box=None)
            for name, value in scores.items():
                table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
            Console(highlight=False).print(table)
        return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    commands = Annotated[Encode, tyro.conf.subcommand("encode")] | Annotated[Decode, tyro.conf.subcommand("decode")]
    commands |= Annotated[Info, tyro.conf.subcommand("info")] | Annotated[Repair, tyro.conf.subcommand("repair")]
    commands |= Annotated[Compare, tyro.conf.subcommand("compare")]
    try:
        command = tyro.cli(commands, args=argv, prog="atrac1", description=__doc__)
        with stoppable():
            status = command.run()
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except OSError as error:  # what concerns a file of the command line is dealt with there
        if not is_unnamed(error):
            return fail("atrac1", error)
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what is left to print would fail again at the very end
        return fail("standard output", error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt as stop:
        errors.print("stopped; nothing is left of the file that was being written")
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)


def _header(raw: int | None) -> AeaHeader | None:
    return None if raw is None else AeaHeader.make(raw)


if __name__ == "__main__":
    sys.exit(main())
