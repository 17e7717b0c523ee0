"""What a training leaves to follow it by: a log in lines of JSON, TensorBoard on request, progress, a picture."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
        temporary = path.with_suffix(".part")
        temporary.write_bytes(b"".join(kept))
        os.replace(temporary, path)
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


def read_log(path: Path) -> list[Line]:
    """Return the lines of a log. Raises: OSError."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Tracker:
    """Writes what is to be followed, on the first rank; does nothing on others.

    Args:
        folder: for log.jsonl and tensorboard/.
        lines: lines of the log to keep.
        epochs, steps: of the training, and of an epoch.
        first: whether this is the first rank.
        tensorboard: write for TensorBoard too.

    Raises:
        ValueError: TensorBoard is not installed, or the log has fewer lines than it should.
        OSError: a file cannot be written.
    """

    def __init__(
        self, folder: Path, lines: int, *, epochs: int, steps: int, first: bool = True, tensorboard: bool = False
    ) -> None:
        self._epochs, self._steps, self._first = epochs, steps, first
        self._board = _board(folder / "tensorboard", lines * steps) if first and tensorboard else None
        self._log = JsonLog(folder / "log.jsonl", lines) if first else None
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


def draw_curve(log: Path, picture: Path, start: float | None = None) -> None:
    """Draw training and validation loss over the epochs, on a logarithmic scale if they are above 0.

    Args:
        log: of the training, one line or more.
        picture: the PNG file to write.
        start: validation loss before the first epoch, if it is known.

    Raises: OSError
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_log(log)
    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(9, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for group, label in (("train", "training"), ("validation", "validation")):
        axes.plot(epochs, [line[group]["loss"] for line in lines], marker="." if len(lines) < 50 else "", label=label)
    if start is not None:
        axes.axhline(start, color="C1", linewidth=1, linestyle=":", zorder=0, label="validation, before")
    best = min(lines, key=lambda line: float(line["validation"]["loss"]))
    axes.axvline(best["epoch"], color="0.7", linewidth=1, zorder=0, label=f"best, epoch {best['epoch']}")
    losses = [line[group]["loss"] for line in lines for group in ("train", "validation")]
    if all(math.isfinite(loss) and loss > 0 for loss in losses):
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(picture))
