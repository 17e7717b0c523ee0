"""How a training is followed: a log in lines of JSON, TensorBoard on request, progress, a picture of the losses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from atrac_bitstream import write_whole
from atrac_train.settings import TrainingSettings

Line = dict[str, Any]


class JsonLog:
    """A file with one JSON object on each line.

    Args:
        path: the file.
        lines: how many of its lines to keep; what follows them is cut off.

    Raises:
        ValueError: it has fewer lines.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, lines: int = 0) -> None:
        kept = path.read_bytes().splitlines(keepends=True)[:lines] if path.exists() else []
        if len(kept) < lines or not all(line.endswith(b"\n") for line in kept):
            raise ValueError(f"{path}: {len(kept)} whole lines, expected {lines} or more")
        write_whole(path, b"".join(kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Line) -> None:
        """Append a line; it is in the file when this returns, `plain`. Raises: OSError."""
        self._file.write(json.dumps(plain(line), allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def plain(value: Any) -> Any:
    """Return what JSON can hold: numbers that are not finite, such as a ratio to no error, become null."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Any) -> None:
    """Write `plain` content as a JSON file, whole or not at all, and make its folder. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, (text + "\n").encode())


def read_log(path: Path) -> list[Line]:
    """Return the lines of a log. Raises: OSError."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Tracker:
    """Writes log and TensorBoard files and shows progress on the first rank; does nothing on others.

    Args:
        settings: those of the training; log.jsonl and tensorboard/ lie in its folder.
        lines: lines of the log to keep.
        first: whether this is the first rank.

    Raises:
        ValueError: TensorBoard is not installed, or the log has fewer lines than it should.
        OSError: a file cannot be written.
    """

    def __init__(self, settings: TrainingSettings, lines: int, *, first: bool = True) -> None:
        self._epochs, self._steps, self._first = settings.epochs, settings.steps_per_epoch, first
        board = first and settings.tensorboard
        self._board = _board(settings.folder / "tensorboard", lines * self._steps) if board else None
        self._log = JsonLog(settings.folder / "log.jsonl", lines) if first else None
        self._console = Console(stderr=True)

    @contextmanager
    def epoch(self, number: int) -> Iterator[Callable[[], None]]:
        """Show how far an epoch is; gives what to call after each step."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        quiet = not (self._first and self._console.is_terminal)
        with Progress(*columns, console=self._console, transient=True, disable=quiet) as progress:
            task = progress.add_task(f"epoch {number} of {self._epochs}", total=self._steps)
            yield lambda: progress.advance(task)

    def write(self, line: Line) -> None:
        """Keep what an epoch came to. Raises: OSError."""
        if self._log is None:
            return
        self._log.write(line)
        if self._board is not None:
            self._board.add_scalar("learning_rate", line["learning_rate"], line["step"])
            for group in ("train", "validation", "scores"):
                for name, value in line[group].items():
                    self._board.add_scalar(f"{group}/{name}", value, line["step"])
            self._board.flush()
        train, validation = line["train"]["loss"], line["validation"]["loss"]
        self._console.print(
            f"epoch {line['epoch']} of {self._epochs}: loss {train:.6g}, validation {validation:.6g}, "
            f"{line['seconds']:.1f} s",
            highlight=False,
            soft_wrap=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._log, self._board):
            if one is not None:
                one.close()


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard = True, but TensorBoard is not installed: pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=step + 1)
