"""One command over many inputs: finding them, naming outputs, showing progress and errors on standard error."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from atrac_bitstream import AtracError

STREAM: Final = "-"
"""The file name that means standard input or output."""
errors: Final = Console(stderr=True, highlight=False, soft_wrap=True)


def find(inputs: Sequence[str], suffixes: frozenset[str] | set[str]) -> Iterator[tuple[str, Path]]:
    """Yield each input file, with its path relative to the folder it was found in."""
    for name in inputs:
        path = Path(name)
        if name == STREAM or not os.path.isdir(name):
            yield name, Path(path.name)
            continue
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in suffixes and file.is_file():
                yield str(file), file.relative_to(path)


def run_each(
    inputs: Sequence[str],
    output: str | None,
    suffix: str,
    suffixes: frozenset[str] | set[str],
    force: bool,
    run: Callable[[str, str, Callable[[float], None]], None],
    duration: Callable[[str], float] | None = None,
) -> int:
    """Run a function that makes one output file on every input file, with a progress bar.

    Args:
        inputs: files and folders.
        output: file for one input file, else folder; `-` for standard output; None for beside each input.
        suffix: ending of output files.
        suffixes: endings of the files to look for in folders.
        force: replace existing files.
        run: called with input, output, and a function that takes the seconds processed so far.
        duration: returns the seconds of an input file, for the progress bar; not called for streams.

    Returns:
        The exit code.
    """
    found = list(find(inputs, suffixes))
    if not found:
        return nothing_found(inputs, suffixes)
    one_file = len(inputs) == 1 and not os.path.isdir(inputs[0])
    to_file = output is not None and one_file and not output.endswith("/") and not os.path.isdir(output)
    status = 0
    made: set[str] = set()
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        for source, relative in found:
            target = _target(source, relative, output, suffix, to_file)
            task = progress.add_task(escape(source), total=None)
            try:
                if target != STREAM:
                    if target in made:
                        raise FileExistsError(f"{target} was just made from another input")
                    if not force and Path(target).exists():
                        raise FileExistsError(f"{target} exists; --force replaces it")
                if duration and source != STREAM and not Path(source).is_fifo():  # a pipe can be read only once
                    progress.update(task, total=duration(source))
                if target != STREAM:
                    _make_folder(Path(target).parent)
                run(source, target, partial(_advance, progress, task))
                made.add(target)
            except (AtracError, OSError) as error:
                status = fail(f"{source} -> {target}" if is_unnamed(error) else source, error)
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
    if output == STREAM or (output is None and source == STREAM):
        return STREAM
    if output is None:
        return str(Path(source).with_suffix(suffix))
    if to_file:
        return output
    return str(Path(output) / relative.with_suffix(suffix))


def readable(source: str) -> str | BinaryIO:
    """Return what to read an input from. Raises: OSError: standard input is closed."""
    if source != STREAM:
        return source
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return sys.stdin.buffer


def writable(target: str) -> str | BinaryIO:
    """Return what to write an output to. Raises: OSError: standard output is closed."""
    if target != STREAM:
        return target
    if sys.stdout is None:
        raise OSError("standard output is closed")
    return sys.stdout.buffer


def wrong(what: object) -> int:
    """Print an error of the command line; return the exit code."""
    errors.print("[red]error:[/]", escape(str(what)))
    return 2


def warn(source: str, texts: Iterable[str]) -> None:
    """Print warnings about an input."""
    for text in texts:
        errors.print("[yellow]warning:[/]", escape(f"{source}: {text}"))


def nothing_found(inputs: Sequence[str], suffixes: frozenset[str] | set[str]) -> int:
    """Print that the inputs hold no files to work on; return the exit code."""
    if not inputs:
        return wrong("no inputs; see --help")
    return fail(", ".join(inputs), FileNotFoundError(f"no files to work on, looked for {' '.join(sorted(suffixes))}"))


def is_unnamed(error: Exception) -> bool:
    """Return whether a system error does not name its file, because that was open already."""
    return isinstance(error, OSError) and error.errno is not None and error.filename is None


def fail(source: str, error: Exception) -> int:
    """Print the error of an input, a system error without its number; return the exit code."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename in (None, source) else f"{error.filename}: {error.strerror}"
    errors.print("[red]error:[/]", escape(text if text.startswith(f"{source}: ") else f"{source}: {text}"))
    return 1


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt as SIGINT does, so that the program cleans up."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
