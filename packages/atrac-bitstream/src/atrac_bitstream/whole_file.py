"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, Self, final

PathOrFile = str | os.PathLike[str] | BinaryIO
"""A path, or an open binary file."""


@final
class WholeFile:
    """A temporary file that replaces its target once it is complete, or leaves nothing.

    As a context manager it commits at the end of the block, and discards what was written if the block raises.

    Args:
        target: path, or binary file object. The temporary file of a path lies in the folder of the path, or of the
            file that a link points to; its name begins with a dot and the first 40 characters of the target's stem,
            and ends in ".part". A file object, pipe or device receives the complete content in one go at the end.

    Raises:
        OSError: the temporary file cannot be created.

    Example:
        >>> import io
        >>> target = io.BytesIO()
        >>> with WholeFile(target) as file:
        ...     _ = file.path.write_bytes(b"all")
        >>> target.getvalue(), file.path.exists()
        (b'all', False)
    """

    def __init__(self, target: PathOrFile) -> None:
        self._target = Path(os.path.realpath(target)) if isinstance(target, str | os.PathLike) else target
        folder, prefix = None, "."
        if isinstance(self._target, Path) and (self._target.is_file() or not self._target.exists()):
            folder, prefix = self._target.parent, f".{self._target.stem[:40]}."
        self._replaces = folder is not None
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=folder)
        os.close(descriptor)
        self.path = Path(name)
        """The temporary file, to be written to and closed before `commit`."""

    def commit(self) -> None:
        """Give the file its name, replacing a file of that name; the temporary file is removed in any case."""
        try:
            with self.path.open("rb") as file:
                if not isinstance(self._target, Path):
                    shutil.copyfileobj(file, self._target)
                    self._target.flush()
                elif not self._replaces:
                    with self._target.open("wb") as special:
                        shutil.copyfileobj(file, special)
                else:
                    os.fsync(file.fileno())
                    # mkstemp makes private files; an ordinary new one has the permissions that the umask leaves.
                    os.umask(mask := os.umask(0))
                    self.path.chmod(0o666 & ~mask)
                    os.replace(self.path, self._target)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was written; after `commit` it does nothing."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()


def write_whole(target: PathOrFile, data: bytes) -> None:
    """Write a small file whole or not at all, see `WholeFile`.

    Args:
        target: path, or binary file object.
        data: the whole content.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import io
        >>> target = io.BytesIO()
        >>> write_whole(target, b"all")
        >>> target.getvalue()
        b'all'
    """
    with WholeFile(target) as file:
        file.path.write_bytes(data)
