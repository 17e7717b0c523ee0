"""Checkpoints: a trained stage as two files, its tensors and a JSON sheet that describes them.

    qmf-1a2b3c4d.safetensors    the tensors; the name is the stage's role and the start of the file's SHA-256
    qmf-1a2b3c4d.json           class, constructor arguments, versions of packages, and facts about the training

Loading runs no stored code: the sheet can only name a `Neural…` class that atrac_modules exports.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

import atrac_bitstream
import atrac_modules
from atrac_bitstream import AtracError, write_whole
from atrac_codec.__about__ import __version__
from atrac_modules import Stage

FORMAT: Final = 1
_NAME: Final = re.compile(r"([a-z]+)-([0-9a-f]{8})\.(safetensors|json)")


class CheckpointError(AtracError):
    """A file is not a checkpoint, is damaged, or its tensors and its JSON do not belong together."""


def save_stage(stage: nn.Module, folder: Path, role: str, about: Mapping[str, Any]) -> Path:
    """Write a trained stage as a checkpoint, each file whole or not at all. Equal weights give equal bytes and names.

    Args:
        stage: a stage with float32 weights, on any device, of a class in `loadable()`; its attribute `settings` holds
            the keyword arguments of its constructor.
        folder: where to write; created if necessary.
        role: `qmf`, `mdct`, …
        about: further entries of the JSON; the checkpoints of this package have `training data`, `licences`, `seed`,
            `curve` and `metrics`.

    Returns:
        The path of the file of tensors, for `load_stage`.

    Raises:
        ValueError: `load_stage` would refuse the checkpoint, for example because a weight is not finite; `about` has a
            key that the format uses itself.
        TypeError: the stage has no settings, or they or `about` cannot be written as JSON.
        OSError: a file cannot be written.
    """
    settings = getattr(stage, "settings", None)
    if not isinstance(settings, dict):
        raise TypeError(f"{type(stage).__name__}.settings is {settings!r}, expected a dict of constructor arguments")
    sheet = {
        "format": FORMAT,
        "role": role,
        "class": type(stage).__name__,
        "settings": settings,
        "versions": versions(),
    }
    if taken := sorted(sheet.keys() & about.keys()):
        raise ValueError(f"about has {', '.join(taken)}, allowed all keys but {', '.join(sheet)}")
    lines = [f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in {**sheet, **about}.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    # Cloned, because safetensors refuses tensors that share memory.
    data = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in stage.state_dict().items()})
    try:
        _restore(data, json.loads(text), role, type(stage).__name__)
    except CheckpointError as error:
        raise ValueError(f"not saved: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{role}-{_hash(data)}.safetensors"
    write_whole(path, data)
    write_whole(path.with_suffix(".json"), text.encode())
    return path


def load_stage(path: str | Path, role: str | None = None) -> Stage:
    """Build the stage of a checkpoint, in evaluation mode, on the CPU, in torch's default dtype.

    Args:
        path: either of its files.
        role: the required role; None allows any.

    Raises:
        CheckpointError: the files are not a checkpoint, damaged, or of another role.
        OSError: a file cannot be read.
    """
    path = Path(path)
    found, digest = _role_and_hash(path)
    if role not in (None, found):
        raise CheckpointError(f"{path}: role {found}, asked for {role}")
    data = path.with_suffix(".safetensors").read_bytes()
    if (actual := _hash(data)) != digest:
        raise CheckpointError(f"{path}: damaged, the SHA-256 of the tensors begins with {actual}, allowed {digest}")
    return _restore(data, describe(path), found, str(path)).eval()


def describe(path: str | Path) -> dict[str, Any]:
    """Return the JSON of a checkpoint.

    Args:
        path: either of its files.

    Raises:
        CheckpointError: the file name is not that of a checkpoint, or the JSON is missing or as `read_sheet` says.
        OSError: a file cannot be read.
    """
    path = Path(path)
    _role_and_hash(path)
    path.stat()  # raises an OSError if `path` itself is missing
    file = path.with_suffix(".json")
    try:
        return read_sheet(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no {file.name} beside it") from error


def read_sheet(path: Path) -> dict[str, Any]:
    """Read the JSON of a checkpoint or a codec folder.

    Raises:
        CheckpointError: it is not JSON, not an object, or of an unknown format.
        OSError: it cannot be read.
    """
    try:
        sheet = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(sheet, dict):
        raise CheckpointError(f"{path}: {type(sheet).__name__}, allowed an object")
    if sheet.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {sheet.get('format')!r}, allowed {FORMAT}")
    return sheet


def loadable() -> dict[str, type[Stage]]:
    """Return the classes that a checkpoint may name: the final `Neural…` stages that atrac_modules exports."""
    exported = {name: getattr(atrac_modules, name) for name in atrac_modules.__all__ if name.startswith("Neural")}
    return {
        name: found
        for name, found in exported.items()
        if isinstance(found, type) and issubclass(found, Stage) and "__final__" in vars(found)
    }


def _restore(data: bytes, sheet: Mapping[str, Any], role: str, where: str) -> Stage:
    """Build the stage that the sheet describes and load the tensors. Raises: CheckpointError."""
    stage = _build(sheet, role, where)
    own = stage.state_dict()
    try:
        tensors = load(data)
    except Exception as error:  # safetensors raises errors of many types, some derived from Exception directly
        raise CheckpointError(f"{where}: not safetensors: {error}") from error
    for names, what in ((own.keys() - tensors.keys(), "missing"), (tensors.keys() - own.keys(), "unexpected")):
        if names:
            raise CheckpointError(f"{where}: {len(names)} {what} tensors for {sheet['class']}, first {min(names)!r}")
    for name, target in own.items():
        tensor, dtype = tensors[name], torch.float32 if target.is_floating_point() else target.dtype
        if (tensor.shape, tensor.dtype) != (target.shape, dtype):
            allowed = f"{list(target.shape)} {dtype}"
            raise CheckpointError(f"{where}: {name} is {list(tensor.shape)} {tensor.dtype}, allowed {allowed}")
        _check_finite(tensor, f"{where}: {name}")
    stage.load_state_dict(tensors)
    return stage


def _build(sheet: Mapping[str, Any], role: str, where: str) -> Stage:
    if sheet.get("role") != role:
        raise CheckpointError(f"{where}: role {sheet.get('role')!r} in its JSON, allowed {role!r}")
    name, settings, classes = sheet.get("class"), sheet.get("settings"), loadable()
    if not isinstance(name, str) or name not in classes:
        raise CheckpointError(f"{where}: class {name!r}, allowed {', '.join(classes)}")
    if role not in (roles := [base.__name__.lower() for base in classes[name].__bases__]):
        raise CheckpointError(f"{where}: role {role}, but {name} is for {', '.join(roles)}")
    try:
        inspect.signature(classes[name]).bind(**settings)  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):  # the constructor draws initial weights; the caller's state is kept
            return classes[name](**settings)  # type: ignore[arg-type]
    except Exception as error:  # a constructor may raise any error for unsuitable arguments
        allowed = f"{name}{inspect.signature(classes[name])}"
        raise CheckpointError(f"{where}: settings {settings!r}, allowed {allowed}: {error}") from error


def _check_finite(tensor: Tensor, where: str) -> None:
    wrong = ~torch.isfinite(tensor)
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        raise CheckpointError(f"{where}{index} = {tensor[tuple(index)].item()}, allowed finite numbers")


def _role_and_hash(path: Path) -> tuple[str, str]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path}: not a checkpoint, allowed ROLE-HASH.safetensors, HASH 8 hexadecimal digits")
    return match[1], match[2]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that a checkpoint depends on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "safetensors": safetensors.__version__,
        "atrac-bitstream": atrac_bitstream.__version__,
        "atrac-modules": atrac_modules.__version__,
        "atrac-codec": __version__,
    }
