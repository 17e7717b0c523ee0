"""Compilation of the kernels: by Numba, once for a machine, kept in the user's cache folder.

The folder is that of the system for caches, or the one that NUMBA_CACHE_DIR names; in it, each state of the kernels'
sources has a folder of its own, because Numba would take code from before a change in another file for current. Where
no folder can be written, kernels are compiled in every process. Files of the cache are replaced as a whole, so that
processes may compile at once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
import platformdirs

_Function = TypeVar("_Function", bound=Callable[..., Any])
_SETTINGS: Final[Any] = numba.config


def _folder() -> Path:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    return Path(_SETTINGS.CACHE_DIR or platformdirs.user_cache_dir("atrac-runtime", appauthor=False)) / digest


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


CACHE: Final = _folder()
"""Folder of the compiled kernels."""


def is_compiled() -> bool:
    """Tell whether kernels have been compiled and kept, so that the next use begins at once."""
    return any(CACHE.rglob("*.nbc"))


def kernel(function: _Function) -> _Function:
    """Compile a function when it is first called, without the interpreter's lock; the compiled code is cached."""
    before, _SETTINGS.CACHE_DIR = _SETTINGS.CACHE_DIR, str(CACHE)
    try:
        compiled: _Function = numba.njit(function, nogil=True, cache=_writable(CACHE))
    finally:
        _SETTINGS.CACHE_DIR = before
    return compiled
