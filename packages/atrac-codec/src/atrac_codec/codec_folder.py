"""Codec folders: a whole codec as files; the folder can replace the name of a preset or decoder.

    codec.json                  the stage of each role: a checkpoint beside it, or a class of atrac_modules, by its name
                                or as {"class": name, setting: value, …}
    qmf-1a2b3c4d.safetensors    a checkpoint, see `checkpoint.py`
    qmf-1a2b3c4d.json

    {"format": 1, "encoder": {"qmf": "qmf-1a2b3c4d", …, "loudness": "ReferenceLoudness"}, "decoder": {…}, …}

Reading one runs no stored code: a class can only be named, and has to be a final stage that atrac_modules exports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import nn

import atrac_modules
from atrac_bitstream import write_whole
from atrac_codec.checkpoint import FORMAT, CheckpointError, load_stage, loadable, read_sheet, save_stage, versions
from atrac_modules import Stage

SHEET: Final = "codec.json"
ROLES: Final = {
    "encoder": ("qmf", "transient", "mdct", "scaler", "allocator", "quantizer", "loudness"),
    "decoder": ("dequantizer", "imdct", "iqmf"),
}
"""Roles of the encoder and the decoder, in the order of the chain."""
Row = Mapping[str, Callable[[], nn.Module]]
"""For each role, a function or class that makes its stage."""


def save_codec(encoder: nn.Module, decoder: nn.Module, folder: Path, about: Mapping[str, Any]) -> Path:
    """Write a codec as a folder; codec.json last, so that a folder with it is complete.

    Args:
        encoder, decoder: modules with the stages as attributes named by their roles. A trained stage becomes a
            checkpoint; of any other the class is kept, with its settings if it has some.
        folder: created if necessary; checkpoints of an earlier codec in it stay.
        about: further entries of codec.json and of each checkpoint's JSON.

    Returns:
        The path of codec.json.

    Raises:
        ValueError, TypeError: a stage is not of a class that can be named, or as `save_stage`.
        OSError: a file cannot be written.
    """
    sheet: dict[str, Any] = {"format": FORMAT}
    if taken := sorted(about.keys() & {"format", "versions", *ROLES}):
        raise ValueError(f"about has {', '.join(taken)}, allowed all keys but format, versions, {', '.join(ROLES)}")
    for half, module in (("encoder", encoder), ("decoder", decoder)):
        sheet[half] = {role: _save(getattr(module, role), role, folder, about) for role in ROLES[half]}
    sheet |= {"versions": versions(), **about}
    text = json.dumps(sheet, indent=1, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SHEET, text.encode())
    return folder / SHEET


def _save(stage: nn.Module, role: str, folder: Path, about: Mapping[str, Any]) -> str | dict[str, Any]:
    name = type(stage).__name__
    if name in loadable():
        return save_stage(stage, folder, role, about).stem
    if type(stage) not in _named(role).values():
        raise ValueError(f"{role} is a {name}, allowed final stages of that role that atrac_modules exports")
    settings = getattr(stage, "settings", {})
    return {"class": name, **settings} if settings else name


def is_codec_folder(path: str | Path) -> bool:
    """Return whether a path is a codec folder."""
    return (Path(path) / SHEET).is_file()


def read_row(folder: str | Path, half: str) -> Row:
    """Return the functions that make the stages of a codec folder's encoder or decoder.

    Args:
        folder: a codec folder.
        half: `encoder` or `decoder`.

    Raises:
        CheckpointError: codec.json is damaged, or a role is missing or has something that is not a stage of it.
        OSError: codec.json cannot be read.
    """
    path = Path(folder) / SHEET
    row = read_sheet(path).get(half)
    if not isinstance(row, dict) or set(row) != set(ROLES[half]):
        found = ", ".join(map(str, row)) if isinstance(row, dict) else repr(row)
        raise CheckpointError(f"{path}: {half} has {found}, allowed {', '.join(ROLES[half])}")
    return {role: _maker(row[role], role, path) for role in ROLES[half]}


def _maker(entry: Any, role: str, sheet: Path) -> Callable[[], nn.Module]:
    settings = dict(entry) if isinstance(entry, dict) else {}
    name = settings.pop("class", None) if settings else entry
    if not settings and isinstance(name, str) and re.fullmatch(rf"{role}-[0-9a-f]{{8}}", name):
        return partial(load_stage, sheet.parent / f"{name}.safetensors", role)
    named = _named(role)
    if not isinstance(name, str) or name not in named:
        raise CheckpointError(f"{sheet}: {role} is {name!r}, allowed {role}-HASH or {', '.join(named)}")
    if not settings:
        return named[name]
    try:
        named[name](**settings)
    except Exception as error:  # a constructor may raise any error for unsuitable arguments
        raise CheckpointError(f"{sheet}: {role} {name}: settings {settings!r}: {error}") from error
    return partial(named[name], **settings)


def _named(role: str) -> dict[str, type[Stage]]:
    """Return the classes of a role that need no weights."""
    abstract = getattr(atrac_modules, role.capitalize())
    exported = {name: getattr(atrac_modules, name) for name in atrac_modules.__all__}
    return {
        name: found
        for name, found in exported.items()
        if isinstance(found, type)
        and issubclass(found, abstract)
        and "__final__" in vars(found)
        and name not in loadable()
    }
