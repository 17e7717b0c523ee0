"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, final


@final
class WholeFile:
    """A temporary file that takes the place of its target when it is done, or leaves nothing.

    Args:
        target: path, beside which the temporary file lies (beside what it leads to if it is a link); or binary file
            object, or path of a pipe or device, which get all of it at the end in one go.

    Raises:
        OSError: no file can be made there.

    Example:
        >>> import io
        >>> target = io.BytesIO()
        >>> file = WholeFile(target)
        >>> _ = file.path.write_bytes(b"all")
        >>> file.commit()
        >>> target.getvalue(), file.path.exists()
        (b'all', False)
    """

    def __init__(self, target: str | os.PathLike[str] | BinaryIO) -> None:
        self._target: Path | BinaryIO = (
            Path(os.path.realpath(target)) if isinstance(target, str | os.PathLike) else target
        )
        self._replaces = isinstance(self._target, Path) and (self._target.is_file() or not self._target.exists())
        folder = self._target.parent if self._replaces and isinstance(self._target, Path) else None
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
        os.close(descriptor)
        self.path = Path(name)
        """Where to write."""

    def commit(self) -> None:
        """Give the file its name, replacing one that has it; the temporary file is gone whatever happens."""
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
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
