"""The `atrac1` command: encode, decode, info, repair, compare.

Results go to standard output, everything else to standard error. Exit codes: 0 all done, 1 some file failed, 2 the
command line is wrong, 130 and 143 stopped by the user (SIGINT, SIGTERM). Existing files are kept unless `--force` is
given.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from atrac_bitstream import POLICIES, AeaHeader, AtracError, describe_damage, read_info, repair_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STREAM = "-"
_errors = Console(stderr=True, highlight=False, soft_wrap=True)

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
    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Encoder; default: the best there is. bitexact writes the very bytes of the reference codec."""
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
            encoder = build_encoder(self.preset or DEFAULT)
        except ValueError as error:
            return _wrong(error)

        def one(source: str, target: str, progress: Callable[[float], None]) -> None:
            report = encode_file(
                _readable(source),
                _writable(target),
                encoder,
                title=self.title,
                length_tag=not self.no_length_tag,
                progress=progress,
            )
            if report.over:
                _warn(
                    f"{source}: {report.over} samples over full scale, the largest {report.peak:.3f}; "
                    "what the scale factors cannot hold is clipped"
                )

        def duration(source: str) -> float | None:
            if source == _STREAM or Path(source).is_fifo():  # what is read from a pipe is gone
                return None
            with AudioReader(source) as reader:
                return reader.duration

        return _each(self.inputs, self.output, ".aea", SUFFIXES, self.force, one, duration)


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
    decoder: str = "standard"
    """Decoder: standard, or bitexact for the very samples of the reference codec."""
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
            return _wrong(error)

        def one(source: str, target: str, progress: Callable[[float], None]) -> None:
            report = decode_file(
                _readable(source),
                _writable(target),
                decoder,
                samples=self.samples,
                keep_delay=self.keep_delay,
                damage=POLICIES[self.damage](),
                header=_header(self.raw),
                progress=progress,
            )
            if report.damages:
                _warn(f"{source}: damaged sound units: {describe_damage(report.damages)}")
            if report.clipped:
                _warn(f"{source}: {report.clipped} samples over full scale were clipped; --samples float keeps them")
            if report.missing:
                _warn(f"{source}: {report.missing} samples that its length tag counts are missing")

        def duration(source: str) -> float | None:
            return None if source == _STREAM else Path(source).stat().st_size / (2 * 212) * 512 / 44100

        return _each(self.inputs, self.output, ".wav", {".aea"}, self.force, one, duration)


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
            report = repair_file(
                _readable(source), _writable(target), POLICIES[self.damage](), header=_header(self.raw)
            )
            _errors.print(escape(f"{source}: {report}"))

        return _each(self.inputs, self.output, ".aea", {".aea"}, self.force, one, lambda source: None)


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
        if not (found := list(_find(self.inputs, {".aea"}))):
            return _nothing_found(self.inputs, {".aea"})
        for source, _ in found:
            try:
                facts = read_info(_readable(source), header=_header(self.raw))
            except (AtracError, OSError) as error:
                status = _fail(source, error)
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
        from atrac_codec.compare import compare

        recordings = []
        for source in (self.reference, self.decoded):
            try:
                recordings.append(_samples(source))
            except (AtracError, OSError) as error:
                return _fail(source, error)
        try:
            scores = compare(*recordings)
        except ValueError as error:
            return _fail(f"{self.reference}, {self.decoded}", error)
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
        with _stoppable():
            status = command.run()
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except OSError as error:  # what concerns a file of the command line is dealt with there
        if not _is_unnamed(error):
            return _fail("atrac1", error)
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what is left to print would fail again at the very end
        return _fail("standard output", error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt as stop:
        _errors.print("stopped; nothing is left of the file that was being written")
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM stop the program as SIGINT does, so that it cleans up."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():  # only that one may say what signals do
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _find(inputs: Sequence[str], suffixes: frozenset[str] | set[str]) -> Iterator[tuple[str, Path]]:
    """Yield each input file, with its path relative to the folder it was found in."""
    for name in inputs:
        path = Path(name)
        if name == _STREAM or not os.path.isdir(name):
            yield name, Path(path.name)
            continue
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in suffixes and file.is_file():
                yield str(file), file.relative_to(path)


def _each(
    inputs: Sequence[str],
    output: str | None,
    suffix: str,
    suffixes: frozenset[str] | set[str],
    force: bool,
    run: Callable[[str, str, Callable[[float], None]], None],
    duration: Callable[[str], float | None],
) -> int:
    """Run something on every input file that makes one output file, with a progress bar; return the exit code."""
    found = list(_find(inputs, suffixes))
    if not found:
        return _nothing_found(inputs, suffixes)
    one_file = len(inputs) == 1 and not os.path.isdir(inputs[0])
    to_file = output is not None and one_file and not output.endswith("/") and not os.path.isdir(output)
    status = 0
    made: set[str] = set()
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=_errors, transient=True, disable=not _errors.is_terminal) as progress:
        for source, relative in found:
            target = _target(source, relative, output, suffix, to_file)
            task = progress.add_task(escape(source), total=None)
            try:
                if target != _STREAM:
                    if target in made:
                        raise FileExistsError(f"{target} was just made from another input")
                    if not force and Path(target).exists():
                        raise FileExistsError(f"{target} exists; --force replaces it")
                progress.update(task, total=duration(source))
                if target != _STREAM:
                    _make_folder(Path(target).parent)
                run(source, target, partial(_advance, progress, task))
                made.add(target)
            except (AtracError, OSError) as error:
                status = _fail(f"{source} -> {target}" if _is_unnamed(error) else source, error)
            progress.remove_task(task)
    return status


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error


def _advance(progress: Progress, task: TaskID, seconds: float) -> None:
    progress.update(task, completed=seconds)


def _target(source: str, relative: Path, output: str | None, suffix: str, to_file: bool) -> str:
    if output == _STREAM or (output is None and source == _STREAM):
        return _STREAM
    if output is None:
        return str(Path(source).with_suffix(suffix))
    if to_file:
        return output
    return str(Path(output) / relative.with_suffix(suffix))


def _readable(source: str) -> str | BinaryIO:
    if source != _STREAM:
        return source
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return sys.stdin.buffer


def _writable(target: str) -> str | BinaryIO:
    if target != _STREAM:
        return target
    if sys.stdout is None:
        raise OSError("standard output is closed")
    return sys.stdout.buffer


def _header(raw: int | None) -> AeaHeader | None:
    return None if raw is None else AeaHeader.make(raw)


def _samples(source: str) -> NDArray[np.float32]:
    """Read a recording, decoding it if it is an AEA file. Shape: [C, N]."""
    from atrac_codec.audio import read_audio
    from atrac_codec.codec import NNFullCodec

    if source != _STREAM and Path(source).suffix.lower() == ".aea":
        return NNFullCodec.from_pretrained().from_bytes(Path(source).read_bytes())[0].numpy()
    return read_audio(_readable(source))


def _wrong(what: object) -> int:
    _errors.print("[red]error:[/]", escape(str(what)))
    return 2


def _warn(text: str) -> None:
    _errors.print("[yellow]warning:[/]", escape(text))


def _nothing_found(inputs: Sequence[str], suffixes: frozenset[str] | set[str]) -> int:
    if not inputs:
        return _wrong("no inputs; see --help")
    return _fail(", ".join(inputs), FileNotFoundError(f"no files to work on, looked for {' '.join(sorted(suffixes))}"))


def _is_unnamed(error: Exception) -> bool:
    """Whether an error of the system came from a file that was open already, and so does not say from which."""
    return isinstance(error, OSError) and error.errno is not None and error.filename is None


def _fail(source: str, error: Exception) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename in (None, source) else f"{error.filename}: {error.strerror}"
    _errors.print("[red]error:[/]", escape(text if text.startswith(f"{source}: ") else f"{source}: {text}"))
    return 1


if __name__ == "__main__":
    sys.exit(main())
