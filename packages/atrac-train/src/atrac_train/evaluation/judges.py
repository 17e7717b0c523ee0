"""Outside judges: programs that compare a decoded recording with its original and print a number.

A judge gets two WAV files of the same length, 24 bits, 44.1 kHz, two channels (mono is doubled), without the codec's
delay. A judge that needs another rate converts it itself. Its score is the number on the first line of its output that
reads `NUMBER` or `WORDS: NUMBER`; more is better. A judge that fails, or whose number is not finite, gives no score.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_train.evaluation.outside import Program, ProgramError

PLACES: Final = ("ref", "dec")
_THREADS: Final = 2
_WAITING: Final = 8
"""Calls that may wait or run at a time, each with two recordings in memory."""


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


def ask(judge: Program, reference: NDArray[np.float32], decoded: NDArray[np.float32]) -> float:
    """Return a judge's score. Shape: [C, N], [C, N]. Raises: ProgramError: the judge gives none; OSError."""
    with tempfile.TemporaryDirectory() as folder:
        files = {place: Path(folder) / f"{place}.wav" for place in PLACES}
        for file, sound in zip(files.values(), (reference, decoded)):
            stereo = np.repeat(sound, 2, axis=0) if len(sound) == 1 else sound
            soundfile.write(file, np.clip(stereo, -1, 1 - 2**-23).T, SAMPLE_RATE, "PCM_24")
        score = number(judge.run(**files))
    if score is None or not math.isfinite(score):
        raise ProgramError(f"{judge.name}: {'no number' if score is None else f'{score} for a score'}")
    return score


class JudgePool:
    """Runs judges in the background while encoders go on, two calls at a time.

    Args:
        judges: the programs to ask.
    """

    def __init__(self, judges: Sequence[Program]) -> None:
        self._judges = judges
        self._pool = ThreadPoolExecutor(_THREADS)
        self._room = threading.Semaphore(_WAITING)

    def submit(self, reference: NDArray[np.float32], decoded: NDArray[np.float32]) -> dict[str, Future[float]]:
        """Ask all judges; wait while too many calls are pending. The results raise what `ask` does.

        Shape: [C, N], [C, N]
        """
        answers = {}
        for judge in self._judges:
            self._room.acquire()
            answers[judge.name] = self._pool.submit(ask, judge, reference, decoded)
            answers[judge.name].add_done_callback(lambda _: self._room.release())
        return answers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
