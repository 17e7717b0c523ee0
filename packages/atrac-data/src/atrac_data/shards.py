"""Shards: tar files of runs of frames, each with an index beside it.

    train-000003.tar    <key>-<run>.json, <key>-<run>.bands.npy, <key>-<run>.bsm.npy, …, end.json
    train-000003.json   what is in it, where each array begins, its size and its SHA-256

A sample is a run of up to 64 successive frames of one recording with all its channels, each field [C, F, *shape]; only
a recording's last run is shorter. The last member counts the runs, because a tar file that is cut between two members
looks complete. A shard is finished when its index is there, which is written last.

webdataset writes and streams these tar files; with the modification time 0 the same input gives the same bytes. It has
no index that leads to single arrays, and its own decoders unpickle whatever a suffix asks for: therefore the index, and
the reading of arrays, which accepts exactly the array that the fields promise, are here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import mmap
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import webdataset as wds
from numpy.typing import NDArray

from atrac_bitstream import WholeFile, write_whole
from atrac_data.errors import DataError
from atrac_data.fields import FIELDS, Frames, check_fields

RUN_FRAMES: Final = 64
"""Frames of a sample. One member per frame would make thousands of small files and a tenth of the speed."""
END: Final = "end"
"""Key of the last member; no run has it."""
_FORMAT: Final = 1
_OPEN_SHARDS: Final = 128
"""Shards kept open for reading single frames."""


@dataclass(frozen=True)
class Run:
    """One sample of a shard.

    Args:
        key: its name in the shard, without dots.
        recording: path of the recording in its folder.
        licence: licence of all that sounds in it.
        first_frame: its first frame, counted in the recording.
        frames: number of frames.
        channels: 1 or 2.
        variant: 0 for the recording as it is, else the number of the augmented one.
        mixed_with: path of the recording that was mixed in, empty if none was.
        offsets: field to the byte of the shard at which its .npy file begins; only the index has them.
    """

    key: str
    recording: str
    licence: str
    first_frame: int
    frames: int
    channels: int
    variant: int = 0
    mixed_with: str = ""
    offsets: dict[str, int] = field(default_factory=dict)


def write_shard(
    path: Path, fields: Sequence[str], about: dict[str, Any], samples: Iterable[tuple[Run, Frames]]
) -> None:
    """Write a shard, then its index; each appears under its name when it is complete.

    Args:
        path: the tar file; the index ends in .json instead.
        fields: names of the fields of every sample.
        about: settings to keep in the index.
        samples: runs with their arrays, of which those of other fields are left out. They are asked for one by one, so
            that only one has to be in memory.

    Raises:
        ValueError: a field is missing, or has another shape or dtype than it should.
        OSError: a file cannot be written.
    """
    fields, index = check_fields(tuple(fields)), index_of(path)
    with WholeFile(path) as whole:
        with (
            whole.path.open("wb") as file,
            wds.TarWriter(file, encoder=False, mtime=0, user="", group="", mode=0o644) as tar,
        ):
            runs = [_write_run(tar, run, frames, fields) for run, frames in samples]
            tar.write({"__key__": END, "json": _json({"runs": len(runs)})})
        digest, size = _sha256(whole.path), whole.path.stat().st_size
        index.unlink(missing_ok=True)  # an index never stands beside a tar file that is not its own
    contents = {
        "format": _FORMAT,
        "about": about,
        "fields": {name: [list(FIELDS[name].shape), FIELDS[name].dtype.str] for name in fields},
        "bytes": size,
        "sha256": digest,
        "runs": [asdict(run) for run in runs],
    }
    write_whole(index, _json(contents))


def _write_run(tar: Any, run: Run, frames: Frames, fields: tuple[str, ...]) -> Run:
    """Append a run; return it with its offsets."""
    sample = {name: value for name, value in asdict(run).items() if name != "offsets"}
    tar.write({"__key__": run.key, "json": _json({**sample, "fields": fields})})
    offsets = {}
    for name in fields:
        if name not in frames:
            raise ValueError(f"{run.key}: field {name} is missing")
        kind, array = FIELDS[name], frames[name]
        shape = (run.channels, run.frames, *kind.shape)
        if array.dtype != kind.dtype or array.shape != shape or not array.size:
            found, expected = f"{array.dtype.str} {list(array.shape)}", f"{kind.dtype.str} {list(shape)}"
            raise ValueError(f"{run.key}: field {name} is {found}, expected {expected}, not empty")
        offsets[name] = tar.tarstream.offset + tarfile.BLOCKSIZE
        data = b"".join((npy_header(shape, kind.dtype), np.ascontiguousarray(array).data))
        tar.write({"__key__": run.key, f"{name}.npy": data})
    return replace(run, offsets=offsets)


@final
class Shard:
    """Reads single arrays of a shard, by its index, without reading what lies between.

    Args:
        path: the tar file or its index.

    Raises:
        DataError: there is no index, or shard and index do not fit; the file is named.
        OSError: a file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).with_suffix(".tar")
        index_path = index_of(self.path)
        if not index_path.exists():
            raise DataError(f"{self.path}: no index {index_path.name} beside it, so the shard is not finished")
        try:
            index = json.loads(index_path.read_bytes())
            if index["format"] != _FORMAT:
                raise ValueError(f"format {index['format']}, allowed {_FORMAT}")
            for name, kind in index["fields"].items():
                if name not in FIELDS or [list(FIELDS[name].shape), FIELDS[name].dtype.str] != kind:
                    raise ValueError(f"no field {name} of shape and type {kind} is known")
            self.fields = tuple(index["fields"])
            self.about: dict[str, Any] = index["about"]
            self.runs = tuple(_run(entry, self.fields) for entry in index["runs"])
            self.sha256, size = str(index["sha256"]), index["bytes"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{index_path}: the index is damaged: {type(error).__name__}: {error}") from error
        found = self.path.stat().st_size if self.path.exists() else "no file, not"
        if found != size:
            raise DataError(f"{self.path}: {found} bytes, but its index states {size}")

    def array(self, run: int, field: str) -> NDArray[Any]:
        """Return a field of a run, read-only, without copying. Shape: [C, F, *shape].

        Raises:
            DataError: the shard lacks the field, or another array stands there; shard, key and field are named.
        """
        about = self.runs[run]
        if field not in self.fields:
            raise DataError(f"{self.path}: {about.key} has no field {field!r}, it has {', '.join(self.fields)}")
        data = _map(self.path, self.sha256)
        return read_npy(data, about.offsets[field], field, (about.channels, about.frames), f"{self.path}: {about.key}")

    def verify(self) -> None:
        """Read the whole shard. Raises: DataError: its SHA-256 is not the one in the index."""
        if (digest := _sha256(self.path)) != self.sha256:
            raise DataError(f"{self.path}: SHA-256 {digest}, but its index states {self.sha256}")


def index_of(path: Path) -> Path:
    """Return the path of a shard's index."""
    return path.with_suffix(".json")


def find_shards(folder: str | Path) -> list[Path]:
    """Return the shards of a folder, in the order of their names; half of one, shard or index, counts too.

    Raises:
        DataError: there is none.
    """
    names = (path for kind in ("tar", "json") for path in Path(folder).glob(f"[!.]*.{kind}"))
    found = sorted({path.with_suffix(".tar") for path in names})
    if not found:
        raise DataError(f"{folder}: no shards (a .tar file with a .json beside it)")
    return found


def read_npy(data: bytes | mmap.mmap, start: int, field: str, leading: tuple[int, int], where: str) -> NDArray[Any]:
    """Return the field whose .npy file begins at a byte of the data, without copying.

    Shape: leading (C, F) -> [C, F, *shape]
    Raises:
        DataError: anything else than this array stands there; `where` and the field are named.
    """
    kind = FIELDS[field]
    shape = (*leading, *kind.shape)
    header = npy_header(shape, kind.dtype)
    try:
        if data[start : start + len(header)] == header:
            return np.ndarray(shape, kind.dtype, data, start + len(header))
    except (TypeError, ValueError):  # the data end before the array does
        pass
    expected = f"an array of shape {list(shape)} and type {kind.dtype.str}"
    raise DataError(f"{where}.{field}.npy is damaged: at byte {start}, expected {expected}")


@functools.lru_cache(maxsize=1024)
def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return what a .npy file begins with; written out here so that no version of NumPy changes the bytes."""
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": shape})
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _map(path: Path, sha256: str) -> mmap.mmap | bytes:
    """Map a shard into memory; the digest tells a shard from one that was later written in its place."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _run(entry: dict[str, Any], fields: tuple[str, ...]) -> Run:
    """Read a run from an index. Raises: TypeError, AttributeError, ValueError: it is none."""
    run = Run(**entry)
    if missing := [name for name in fields if name not in run.offsets]:
        raise ValueError(f"{run.key} has no field {missing[0]!r}")
    numbers = [run.first_frame, run.frames, run.channels, run.variant, *run.offsets.values()]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"{run.key}: {numbers}, allowed whole numbers")
    return run


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()
