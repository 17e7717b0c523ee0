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
        target: path, beside which the temporary file lies; or binary file object, which gets all of it at the end
            in one go and so need not be seekable.

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
        self._target = target
        if isinstance(target, str | os.PathLike):
            path = Path(target)
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        else:
            descriptor, name = tempfile.mkstemp()
        os.close(descriptor)
        self.path = Path(name)
        """Where to write."""

    def commit(self) -> None:
        """Give the file its name, replacing one that has it; the temporary file is gone whatever happens."""
        try:
            if isinstance(self._target, str | os.PathLike):
                with self.path.open("rb") as file:
                    os.fsync(file.fileno())
                # mkstemp makes private files; an ordinary new file has the permissions that the umask leaves.
                os.umask(mask := os.umask(0))
                self.path.chmod(0o666 & ~mask)
                os.replace(self.path, self._target)
            else:
                with self.path.open("rb") as file:
                    shutil.copyfileobj(file, self._target)
                self._target.flush()
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was written; after `commit` it does nothing."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
