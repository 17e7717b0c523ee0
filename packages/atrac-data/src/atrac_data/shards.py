"""Shards: tar files of runs of frames, each with an index beside it.

    train-000003.tar    <key>-<run>.json, <key>-<run>.bands.npy, <key>-<run>.bsm.npy, …, end.json
    train-000003.json   what is in it, where each array begins, its size and its SHA-256

A sample is a run of up to 64 successive frames of one recording with all its channels, each field [C, F, *shape]; only
a recording's last run is shorter. The tar file is in webdataset's layout; its last member counts the runs, since a tar
file that breaks off between two members looks whole. Nothing is ever pickled, and the same input gives the same bytes.
A shard is finished when its index is there, which comes last.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import mmap
import os
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from atrac_data.errors import DataError
from atrac_data.fields import FIELDS, Frames, check_fields

RUN_FRAMES: Final = 64
"""Frames of a sample. One member per frame would make thousands of small files and a tenth of the speed."""
END: Final = "end"
"""Name of the last member, less its suffix; no key is like it."""
_FORMAT: Final = 1
_OPEN_SHARDS: Final = 128
"""Shards kept open for reading single frames."""


@dataclass(frozen=True)
class Run:
    """One sample of a shard.

    Args:
        key: its name in the shard.
        recording: path of the recording in its folder.
        licence: of all that sounds in it.
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
    variant: int
    mixed_with: str
    offsets: dict[str, int]


@final
class ShardWriter:
    """Writes one shard and its index, under temporary names until both are complete.

    Args:
        path: the tar file; the index ends in .json instead. What a killed writer of this shard has left is removed.
        fields: names of the fields of every sample.
        about: settings to keep in the index.

    Raises:
        OSError: a file cannot be written.
    """

    def __init__(self, path: Path, fields: Sequence[str], about: dict[str, Any]) -> None:
        self._path, self._fields, self._about = path, check_fields(tuple(fields)), about
        for stale in path.parent.glob(f".{glob.escape(path.stem)}.*.part"):
            stale.unlink(missing_ok=True)
        self._temporary = _temporary(path)
        self._runs: list[Run] = []
        self._digest = hashlib.sha256()
        self._position = 0
        self._file = self._temporary.open("xb")

    def add(
        self,
        recording: str,
        key: str,
        licence: str,
        first_frame: int,
        frames: Frames,
        *,
        variant: int = 0,
        mixed_with: str = "",
    ) -> None:
        """Append a run.

        Args:
            recording: path of the recording in its folder.
            key: what stands for the recording in names, without dots.
            licence: of all that sounds in it.
            first_frame: the run's first frame, counted in the recording.
            frames: arrays [C, F, *shape] of this writer's fields; others are left out.
            variant, mixed_with: as in `Run`.

        Raises:
            ValueError: a field is missing, or has another shape or dtype.
            OSError: the file cannot be written.
        """
        first = frames.get(self._fields[0])
        channels, n = first.shape[:2] if first is not None and first.ndim > 1 else (0, 0)
        arrays = {name: _checked(name, frames.get(name), (channels, n)) for name in self._fields}
        name = f"{key}-{first_frame // RUN_FRAMES:06d}"
        run = Run(name, recording, licence, first_frame, n, channels, variant, mixed_with, {})
        sample = {k: v for k, v in asdict(run).items() if k != "offsets"}
        self._member(f"{name}.json", _json({**sample, "fields": self._fields}))
        for field, array in arrays.items():
            data = np.ascontiguousarray(array).data.cast("B")
            run.offsets[field] = self._member(f"{name}.{field}.npy", npy_header(array.shape, array.dtype), data)
        self._runs.append(run)

    def _member(self, name: str, *parts: bytes | memoryview) -> int:
        """Append a file; return where its content begins."""
        member = tarfile.TarInfo(name)
        member.size = sum(map(len, parts))
        self._write(member.tobuf(tarfile.USTAR_FORMAT))
        start = self._position
        for part in (*parts, bytes(-member.size % tarfile.BLOCKSIZE)):
            self._write(part)
        return start

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._position += len(data)

    def close(self) -> None:
        """Complete the shard, then its index; leave nothing if that fails. Raises: OSError."""
        try:
            self._member(f"{END}.json", _json({"runs": len(self._runs)}))
            self._write(bytes(2 * tarfile.BLOCKSIZE))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            index = {
                "format": _FORMAT,
                "about": self._about,
                "fields": {name: [list(FIELDS[name].shape), FIELDS[name].dtype.str] for name in self._fields},
                "bytes": self._position,
                "sha256": self._digest.hexdigest(),
                "runs": [asdict(run) for run in self._runs],
            }
            target = index_of(self._path)
            target.unlink(missing_ok=True)  # an index never stands beside a tar file that is not its own
            os.replace(self._temporary, self._path)
            write_whole(target, _json(index))
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: remove what was written so far. After `close` it does nothing."""
        with contextlib.suppress(OSError):  # a full disk may refuse the last flush too
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


@final
class Shard:
    """Reads single frames and runs of a shard, by its index, without reading what lies between.

    Args:
        path: the tar file or its index.

    Raises:
        DataError: there is no index, or shard and index do not fit; both are named.
        OSError: a file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).with_suffix(".tar")
        index_path = index_of(self.path)
        try:
            index = json.loads(index_path.read_bytes())
            if index["format"] != _FORMAT:
                raise DataError(f"{index_path}: format {index['format']}, allowed {_FORMAT}")
            layout, size = dict(index["fields"]), index["bytes"]
            self.fields = tuple(layout)
            self.about: dict[str, Any] = index["about"]
            self.runs = tuple(_run(run, self.fields) for run in index["runs"])
            self.sha256 = str(index["sha256"])
        except FileNotFoundError as error:
            missing = f"no index {index_path.name} beside it, so the shard is not finished"
            raise DataError(f"{self.path}: {missing}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"{index_path}: the index is damaged: {reason}") from error
        for name, kind in layout.items():
            if name not in FIELDS or [list(FIELDS[name].shape), FIELDS[name].dtype.str] != kind:
                raise DataError(f"{index_path}: field {name} of shape and type {kind} is not known here")
        found = self.path.stat().st_size if self.path.exists() else "no file, not"
        if found != size:
            raise DataError(f"{self.path}: {found} bytes, but its index states {size}")

    def array(self, run: int, field: str) -> NDArray[Any]:
        """Return a field of a run, read-only, without copying. Shape: [C, F, *shape].

        Raises:
            DataError: the shard lacks the field, or another array stands there; shard, key and field are named.
        """
        about, kind = self.runs[run], FIELDS.get(field)
        if kind is None or field not in self.fields:
            raise DataError(f"{self.path}: {about.key} has no field {field!r}, it has {', '.join(self.fields)}")
        shape = (about.channels, about.frames, *kind.shape)
        header, start = npy_header(shape, kind.dtype), about.offsets[field]
        try:
            data = _map(self.path, self.sha256)
            if data[start : start + len(header)] == header:
                return np.ndarray(shape, kind.dtype, data, start + len(header))
        except (TypeError, ValueError):  # beyond the end of the file
            pass
        raise DataError(
            f"{self.path}: {about.key}.{field}.npy is damaged: at byte {start} there is no array of shape "
            f"{list(shape)} and type {kind.dtype.str}"
        )

    def verify(self) -> None:
        """Read the whole shard. Raises: DataError: its SHA-256 is not the one in the index."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise DataError(f"{self.path}: SHA-256 {digest}, but its index states {self.sha256}")


def index_of(path: Path) -> Path:
    """Return the path of a shard's index."""
    return path.with_suffix(".json")


def find_shards(folder: str | Path) -> list[Path]:
    """Return the shards of a folder, in the order of their names; half of one, shard or index, counts too.

    Raises:
        DataError: there is none.
    """
    found = sorted(
        {path.with_suffix(".tar") for kind in ("tar", "json") for path in Path(folder).glob(f"[!.]*.{kind}")}
    )
    if not found:
        raise DataError(f"{folder}: no shards (a .tar file with a .json beside it)")
    return found


def read_npy(data: bytes, field: str, leading: tuple[int, int], where: str) -> NDArray[Any]:
    """Read a field from the bytes of a .npy file, without copying.

    Shape: leading (C, F) -> [C, F, *shape]
    Raises:
        DataError: it is anything else than this array; `where` and the field are named.
    """
    kind = FIELDS[field]
    shape = (*leading, *kind.shape)
    header = npy_header(shape, kind.dtype)
    size = kind.dtype.itemsize * int(np.prod(shape))
    if not data.startswith(header) or len(data) != len(header) + size:
        expected = f"an array of shape {list(shape)} and type {kind.dtype.str}"
        begins = bytes(data[10:90]).split(b"\n")[0].strip()
        raise DataError(f"{where}.{field}.npy is damaged: {len(data)} bytes, {begins!r}, expected {expected}")
    return np.frombuffer(data, kind.dtype, offset=len(header)).reshape(shape)


def runs_of(chunks: Iterable[Frames]) -> Iterator[Frames]:
    """Cut the frames of a recording, which come in chunks of multiples of 64 but for the last, into runs of 64."""
    for chunk in chunks:
        n = next(iter(chunk.values())).shape[1]
        for start in range(0, n, RUN_FRAMES):
            yield {name: array[:, start : start + RUN_FRAMES] for name, array in chunk.items()}


@functools.lru_cache(maxsize=1024)
def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return what a .npy file begins with; written out here so that no version of NumPy changes the bytes."""
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": shape})
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def write_whole(target: Path, data: bytes) -> None:
    """Write a file that appears under its name when it is complete. Raises: OSError."""
    temporary = _temporary(target)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary(target: Path) -> Path:
    """Return a new name beside the target; two writers of one shard must not share a file."""
    return target.with_name(f".{target.stem}.{uuid.uuid4().hex}.part")


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _map(path: Path, sha256: str) -> mmap.mmap:
    """Map a shard into memory; one that was written anew is another one. Raises: ValueError: it is empty."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _run(entry: dict[str, Any], fields: tuple[str, ...]) -> Run:
    """Read a run from an index. Raises: TypeError, AttributeError: it is none."""
    run = Run(**entry)
    if missing := [name for name in fields if name not in run.offsets]:
        raise TypeError(f"{run.key} has no field {missing[0]!r}")
    numbers = [run.first_frame, run.frames, run.channels, run.variant, *run.offsets.values()]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise TypeError(f"{run.key}: {numbers}, allowed whole numbers")
    return run


def _checked(name: str, array: NDArray[Any] | None, leading: tuple[int, int]) -> NDArray[Any]:
    kind = FIELDS[name]
    if array is None:
        raise ValueError(f"field {name} is missing")
    if array.dtype != kind.dtype or array.shape != (*leading, *kind.shape) or 0 in leading:
        expected = f"{kind.dtype.str} {['C', 'F', *kind.shape] if 0 in leading else [*leading, *kind.shape]}"
        raise ValueError(f"field {name} is {array.dtype.str} {list(array.shape)}, expected {expected}")
    return array


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()
