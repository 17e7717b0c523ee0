"""Files whose source fails at any read: nothing but the operating system's error comes out, and the target stays."""

import errno
import io
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from atrac_bitstream import (
    AeaReader,
    AtracError,
    DamagePolicy,
    RaiseDamage,
    RepeatDamage,
    SilenceDamage,
    read_info,
    repair_file,
)


class FailsAfter(io.BytesIO):
    """Fails after some reads, and gives at most so many bytes in each."""

    def __init__(self, data: bytes, reads: int, most: int) -> None:
        super().__init__(data)
        self.left, self.most = reads, most

    def read(self, size: int | None = -1) -> bytes:
        if not self.left:
            raise OSError(errno.EIO, "the disk is broken")
        self.left -= 1
        return super().read(self.most if size is None or size < 0 else min(size, self.most))


@pytest.fixture(params=["whole", "short", "damaged"])
def data(request: pytest.FixtureRequest, aea_bytes: bytes) -> bytes:
    """A file, with or without damage."""
    changed = bytearray(aea_bytes)
    if request.param == "damaged":
        changed[2048 + 424 * 5] = 0xFF
    return bytes(changed[: -100 if request.param == "short" else None])


@pytest.mark.parametrize("most", [1 << 30, 700])
@pytest.mark.parametrize("policy", [None, RaiseDamage(), SilenceDamage(), RepeatDamage()])
def test_a_source_that_fails_gives_nothing_but_os_errors_and_leaves_the_target(
    policy: DamagePolicy | None, most: int, data: bytes, place: Path
) -> None:
    target = place / "out.aea"

    def use(file: BinaryIO) -> Any:
        target.write_bytes(b"old")
        try:
            if policy is not None:
                return repair_file(file, target, policy, block=2)
            return [units.tobytes() for units in AeaReader(file).blocks(2)], read_info(io.BytesIO(data), block=2)
        except AtracError as error:
            return str(error)

    for reads in range(200):
        try:
            result = use(FailsAfter(data, reads, most))
            break
        except OSError as error:
            assert error.errno == errno.EIO  # noqa: PT017
            assert [path.read_bytes() for path in place.iterdir()] == [b"old"]
    assert 1 < reads < 199
    assert result == use(io.BytesIO(data))
