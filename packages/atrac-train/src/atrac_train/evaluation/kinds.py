"""The kind of content of a recording, as a JSON file states it."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ALL: Final = "all"
"""Kind of a summary over the recordings of all kinds."""
SPEECH: Final = "speech"
"""Kind whose recordings get the measures of speech too."""
UNNAMED: Final = "unnamed"
"""Kind of a recording that no pattern matches; it counts in the means over all recordings only."""
KINDS_FILE: Final = "kinds.json"
"""Name of the file beside the recordings."""


def read_kinds(path: Path) -> dict[str, str]:
    """Read a JSON file, pattern of paths to kind. Raises: OSError; ValueError: the file holds something else."""
    try:
        kinds = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(kinds, dict):
        raise ValueError(f"{path}: found {type(kinds).__name__}, allowed an object, pattern to kind")
    for pattern, kind in kinds.items():
        if not isinstance(kind, str) or not kind:
            raise ValueError(f"{path}: {pattern} is {kind!r}, allowed the name of a kind, such as {SPEECH!r}")
    return kinds


def kind_of(path: str, kinds: Mapping[str, str]) -> str:
    """Return the kind of the first pattern that matches a path.

    Example:
        >>> kind_of("a/b.wav", {"a/*": "speech", "*": "music"}), kind_of("b.wav", {"a/*": "speech"})
        ('speech', 'unnamed')
    """
    return next((kind for pattern, kind in kinds.items() if fnmatch.fnmatchcase(path, pattern)), UNNAMED)
