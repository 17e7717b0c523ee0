"""Files appear under their name when they are complete, or not at all."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atrac_bitstream import WholeFile, write_whole

pytestmark = pytest.mark.usefixtures("temporary")


def put(target: Any, data: bytes = b"all") -> WholeFile:
    """Write everything, without giving it its name."""
    whole = WholeFile(target)
    whole.path.write_bytes(data)
    return whole


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail(*_: Any) -> None:
    raise OSError(errno.EIO, "the disk is broken")


@pytest.mark.parametrize("existing", [{}, {"file.bin": b"old and longer"}])
@pytest.mark.parametrize("kind", [Path, str, lambda target: target.name])
def test_path_gets_the_whole_file_on_commit(
    kind: Callable[[Path], Any], existing: dict[str, bytes], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    target = place / "file.bin"
    for data in existing.values():
        target.write_bytes(data)
    whole = put(kind(target))
    assert whole.path.parent == place
    assert whole.path.match(".file.*.part")
    assert {k: v for k, v in content(place).items() if k != whole.path.name} == existing
    whole.commit()
    whole.discard()
    assert content(place) == {"file.bin": b"all"}


def test_file_object_gets_the_whole_file_on_commit_where_it_stands(temporary: Path) -> None:
    flushed = []

    class File(io.BytesIO):
        def flush(self) -> None:
            flushed.append(len(self.getvalue()))

    target = File(b"before")
    target.seek(0, io.SEEK_END)
    whole = put(target, b"all" * 100_000)
    assert whole.path.parent == temporary
    assert target.getvalue() == b"before"
    whole.commit()
    assert target.getvalue() == b"before" + b"all" * 100_000
    assert flushed[-1] == 300_006
    assert not target.closed
    assert content(temporary) == {}


def test_two_writers_of_one_name_do_not_mix(place: Path) -> None:
    one, two = put(place / "file.bin", b"one"), put(place / "file.bin", b"two")
    two.commit()
    one.commit()
    assert content(place) == {"file.bin": b"one"}


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o177, 0o600)])
def test_permissions_are_those_that_the_umask_leaves(mask: int, mode: int, place: Path) -> None:
    before = os.umask(mask)
    try:
        put(place / "file.bin").commit()
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (place / "file.bin").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("function", ["fsync", "replace", "discard"])
def test_what_was_there_stays_when_commit_fails_or_all_is_discarded(
    function: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file.bin").write_bytes(b"old")
    whole = put(place / "file.bin")
    if function == "discard":
        whole.discard()
    else:
        monkeypatch.setattr(os, function, fail)
        with pytest.raises(OSError, match="the disk is broken"):
            whole.commit()
    whole.discard()
    assert content(place) == {"file.bin": b"old"}


def test_nothing_temporary_is_left_when_a_file_object_fails(temporary: Path) -> None:
    class Broken(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.EIO, "the disk is broken")

    with pytest.raises(OSError, match="the disk is broken"):
        put(Broken()).commit()
    assert content(temporary) == {}


def test_a_link_keeps_leading_to_the_file_and_a_device_is_not_replaced(place: Path) -> None:
    real = place / "elsewhere" / "real.bin"
    real.parent.mkdir()
    real.write_bytes(b"before")
    (place / "link").symlink_to(real)
    put(place / "link", b"after").commit()
    assert (place / "link").is_symlink()
    assert real.read_bytes() == b"after"
    whole = put(os.devnull)
    whole.commit()
    assert not Path(os.devnull).is_file()
    assert not whole.path.exists()


def test_the_longest_name_is_no_hindrance(place: Path) -> None:
    for name in ("x" * 255, "é" * 127):
        put(place / name).commit()
        assert (place / name).read_bytes() == b"all"


def test_write_whole_replaces_the_file_or_leaves_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(place / "file.bin", b"one")
    write_whole(str(place / "file.bin"), b"two")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="the disk is broken"):
        write_whole(place / "file.bin", b"three")
    assert content(place) == {"file.bin": b"two"}
