"""Outside programs, encoders and judges, each called by a command with places for files."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from atrac_bitstream import AtracError

LONGEST: Final = 600.0
"""Seconds after which a program is stopped."""


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
