"""Outside programs, called by a command with places for files: encoders, decoders, and judges that print a score.

A judge compares a decoded recording with its original. It gets two WAV files of the same length, 24 bits, 44.1 kHz, two
channels (mono is doubled), without the codec's delay. A judge that needs another rate converts it itself. Its score is
the number on the first line of its output that reads `NUMBER` or `WORDS: NUMBER`; more is better. A judge that fails,
or whose number is not finite, gives no score.
"""

from __future__ import annotations

import math
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from atrac_bitstream import AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_train.evaluation.results import Row

Sound = NDArray[np.float32]
"""Samples [C, N], 44.1 kHz, full scale 1."""
ENCODER_PLACES: Final = ("in", "out")
JUDGE_PLACES: Final = ("ref", "dec")
LONGEST: Final = 600.0
"""Seconds after which a program is stopped."""
_THREADS: Final = 2
_WAITING: Final = 8
"""Rows that may wait or be graded at a time, each with two recordings in memory."""


class ProgramError(AtracError):
    """An outside program failed; the message ends with the last line of its output."""


@dataclass(frozen=True)
class Program:
    """A program with places for files in its command.

    Args:
        name: used in tables and results.
        command: as given.
    """

    name: str
    command: str

    @classmethod
    def of(cls, option: str, text: str, places: tuple[str, ...]) -> Self:
        """Read `NAME=COMMAND`, with every one of places in the command.

        Raises: ValueError: the text has another form, or there is no such program.
        """
        name, equals, command = text.partition("=")
        holes = [f"{{{place}}}" for place in places]
        if not (name and equals and all(hole in command for hole in holes)):
            raise ValueError(f"{option} {text!r}: allowed NAME=COMMAND with {' and '.join(holes)}")
        try:
            program = shlex.split(command)[0]
        except ValueError as error:
            raise ValueError(f"{option} {text!r}: {error}") from error
        if shutil.which(program) is None:
            raise ValueError(f"{option} {name}: no program {program!r}")
        return cls(name, command)

    def run(self, **files: Path) -> str:
        """Run it with a file in each place; return its output. Raises: ProgramError: it fails."""
        parts = shlex.split(self.command)
        for place, file in files.items():
            parts = [part.replace(f"{{{place}}}", str(file)) for part in parts]
        try:
            result = subprocess.run(
                parts, capture_output=True, text=True, errors="replace", check=False, timeout=LONGEST
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProgramError(f"{self.name}: {error}") from error
        if result.returncode:
            said = (result.stderr or result.stdout).strip().splitlines()[-1:]
            raise ProgramError(f"{self.name}: exit code {result.returncode}{f', {said[0]}' if said else ''}")
        return result.stdout


def number(output: str) -> float | None:
    """Return the number on the first line that reads `NUMBER` or `WORDS: NUMBER`, finite or not; none without one.

    Example:
        >>> number("reading …\\nDifference Grade: -0.25\\nIndex: 1.5"), number("no grade"), number("Grade: -nan")
        (-0.25, None, nan)
    """
    for line in output.splitlines():
        try:
            return float(line.rpartition(":")[2])
        except ValueError:
            continue
    return None


def ask(judge: Program, reference: Sound, decoded: Sound) -> float:
    """Return a judge's score. Shape: [C, N], [C, N]. Raises: ProgramError: the judge gives none; OSError."""
    with tempfile.TemporaryDirectory() as folder:
        files = {place: Path(folder) / f"{place}.wav" for place in JUDGE_PLACES}
        for file, sound in zip(files.values(), (reference, decoded)):
            stereo = np.repeat(sound, 2, axis=0) if len(sound) == 1 else sound
            soundfile.write(file, np.clip(stereo, -1, 1 - 2**-23).T, SAMPLE_RATE, "PCM_24")
        score = number(judge.run(**files))
    if score is None or not math.isfinite(score):
        raise ProgramError(f"{judge.name}: {'no number' if score is None else f'{score} for a score'}")
    return score


def grade(judges: Sequence[Program], row: Row, reference: Sound, decoded: Sound) -> None:
    """Put the score of each judge into a row; where a judge fails, the score is null and the reason is kept.

    Shape: [C, N], [C, N]
    """
    for judge in judges:
        row.scores[judge.name] = None
        try:
            row.scores[judge.name] = ask(judge, reference, decoded)
        except (ProgramError, OSError) as error:
            row.missing[judge.name] = str(error)


@contextmanager
def grading(judges: Sequence[Program]) -> Iterator[Callable[[Row, Sound, Sound], None]]:
    """Run judges in the background while encoders go on; all rows are graded at the end of the context.

    Yields:
        A function that takes the arguments of `grade` after the first; it waits while too many rows are pending.
    """
    room, pending = threading.Semaphore(_WAITING), []
    with ThreadPoolExecutor(_THREADS) as pool:

        def submit(row: Row, reference: Sound, decoded: Sound) -> None:
            room.acquire()
            pending.append(pool.submit(grade, judges, row, reference, decoded))
            pending[-1].add_done_callback(lambda _: room.release())

        try:
            yield submit
            for graded in pending:
                graded.result()
        finally:
            pool.shutdown(cancel_futures=True)
