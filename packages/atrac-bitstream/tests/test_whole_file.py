"""Files appear under their name when they are complete, or not at all."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from atrac_bitstream import WholeFile, write_whole

pytestmark = pytest.mark.usefixtures("temporary")


@pytest.mark.parametrize("kind", [Path, str])
def test_path_gets_the_whole_file_on_commit(kind: type, place: Path, temporary: Path) -> None:
    target = place / "file.bin"
    whole = WholeFile(kind(target))
    assert whole.path.parent == place
    assert (whole.path.name[0], whole.path.suffix) == (".", ".part")
    assert whole.path.stat().st_size == 0
    whole.path.write_bytes(b"all")
    assert not target.exists()
    whole.commit()
    assert target.read_bytes() == b"all"
    assert list(place.iterdir()) == [target]
    assert list(temporary.iterdir()) == []


def test_relative_path_lies_in_the_current_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    whole = WholeFile("file.bin")
    whole.path.write_bytes(b"all")
    whole.commit()
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("file.bin", b"all")]


def test_file_object_gets_the_whole_file_on_commit(temporary: Path) -> None:
    flushed = []

    class File(io.BytesIO):
        def flush(self) -> None:
            flushed.append(len(self.getvalue()))

    target = File(b"")
    whole = WholeFile(target)
    assert whole.path.parent == temporary
    whole.path.write_bytes(b"all" * 100_000)
    assert target.getvalue() == b""
    whole.commit()
    assert target.getvalue() == b"all" * 100_000
    assert flushed[-1] == 300_000
    assert not target.closed
    assert list(temporary.iterdir()) == []


def test_file_object_is_written_to_from_where_it_stands() -> None:
    target = io.BytesIO(b"before")
    target.seek(0, io.SEEK_END)
    whole = WholeFile(target)
    whole.path.write_bytes(b" after")
    whole.commit()
    assert target.getvalue() == b"before after"


@pytest.mark.parametrize("existing", [None, b"old"])
def test_discard_leaves_what_was_there(existing: bytes | None, place: Path) -> None:
    target = place / "file.bin"
    if existing is not None:
        target.write_bytes(existing)
    whole = WholeFile(target)
    whole.path.write_bytes(b"new")
    whole.discard()
    whole.discard()
    assert [path.read_bytes() for path in place.iterdir()] == ([existing] if existing else [])


def test_discard_after_commit_does_nothing(place: Path) -> None:
    whole = WholeFile(place / "file.bin")
    whole.path.write_bytes(b"all")
    whole.commit()
    whole.discard()
    assert (place / "file.bin").read_bytes() == b"all"


def test_existing_file_is_replaced(place: Path) -> None:
    (place / "file.bin").write_bytes(b"old and longer")
    whole = WholeFile(place / "file.bin")
    whole.path.write_bytes(b"new")
    whole.commit()
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("file.bin", b"new")]


def test_two_writers_of_one_name_do_not_mix(place: Path) -> None:
    one, two = WholeFile(place / "file.bin"), WholeFile(place / "file.bin")
    one.path.write_bytes(b"one")
    two.path.write_bytes(b"two")
    two.commit()
    one.commit()
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("file.bin", b"one")]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o177, 0o600)])
def test_permissions_are_those_that_the_umask_leaves(mask: int, mode: int, place: Path) -> None:
    before = os.umask(mask)
    try:
        whole = WholeFile(place / "file.bin")
        whole.commit()
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (place / "file.bin").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_nothing_is_left_when_commit_fails(function: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "file.bin").write_bytes(b"old")
    whole = WholeFile(place / "file.bin")
    whole.path.write_bytes(b"new")

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="the disk is broken"):
        whole.commit()
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("file.bin", b"old")]


def test_nothing_temporary_is_left_when_a_file_object_fails(temporary: Path) -> None:
    class Broken(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.EIO, "the disk is broken")

    whole = WholeFile(Broken())
    whole.path.write_bytes(b"all")
    with pytest.raises(OSError, match="the disk is broken"):
        whole.commit()
    assert list(temporary.iterdir()) == []


def test_missing_folder_is_an_os_error(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WholeFile(place / "none" / "file.bin")


def test_a_link_keeps_leading_to_the_file(place: Path) -> None:
    real = place / "elsewhere" / "real.bin"
    real.parent.mkdir()
    real.write_bytes(b"before")
    (place / "link").symlink_to(real)
    whole = WholeFile(place / "link")
    whole.path.write_bytes(b"after")
    whole.commit()
    assert (place / "link").is_symlink()
    assert real.read_bytes() == b"after"


def test_a_device_is_written_to_and_not_replaced() -> None:
    whole = WholeFile(os.devnull)
    whole.path.write_bytes(b"gone")
    whole.commit()
    assert not Path(os.devnull).is_file()
    assert not whole.path.exists()


def test_the_longest_name_is_no_hindrance(place: Path) -> None:
    whole = WholeFile(place / ("x" * 255))
    whole.path.write_bytes(b"all")
    whole.commit()
    assert (place / ("x" * 255)).read_bytes() == b"all"


def test_write_whole_replaces_the_file_or_leaves_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = place / "file.bin"
    write_whole(target, b"one")
    write_whole(str(target), b"two")
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(OSError, match="no space"):
        write_whole(target, b"three")
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("file.bin", b"two")]
