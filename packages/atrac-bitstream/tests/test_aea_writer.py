"""Writing AEA files: header and frames, all of it or nothing."""

import errno
import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import AeaError, AeaHeader, AeaReader, AeaWriter

Units = NDArray[np.uint8]


@pytest.fixture(params=["path", "text path", "BytesIO"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    path = tmp_path / "out.aea"
    return {"path": path, "text path": str(path), "BytesIO": io.BytesIO()}[request.param]


def written(target: Any) -> bytes:
    return target.getvalue() if isinstance(target, io.BytesIO) else Path(target).read_bytes()


def test_written_file_is_header_and_frames(target: Any, stereo: Units) -> None:
    writer = AeaWriter(target, 2, "クラシック")
    assert (writer.channels, writer.frames, writer.samples) == (2, 0, None)
    for frames in (stereo[:4], stereo[4:4], stereo[4:]):
        writer.write(frames)
    assert writer.frames == 9
    writer.samples = 4321
    writer.close()
    assert written(target) == AeaHeader.make(2, 18, "クラシック", 4321).data + stereo.tobytes()


def test_count_and_tag_stand_in_the_file_right_after_close(target: Any, stereo: Units) -> None:
    with AeaWriter(target, 1) as writer:
        writer.write(stereo[:, :1])
    assert AeaHeader(written(target)).unit_count == 9
    assert AeaHeader(written(target)).samples is None


@pytest.mark.parametrize("samples", [0, 44_100])
def test_length_tag_is_written_when_set(samples: int, target: Any) -> None:
    with AeaWriter(target, 1) as writer:
        writer.samples = samples
    assert AeaHeader(written(target)).samples == samples


def test_written_frames_need_not_be_valid_nor_contiguous(target: Any) -> None:
    units = np.random.default_rng(2).integers(0, 256, (12, 2, 2, 212), np.uint8)
    with AeaWriter(target, 2) as writer:
        writer.write(units[::2, :, 0])
        writer.write(np.asfortranarray(units[1::2, :, 1]))
    expected = np.concatenate([units[::2, :, 0], units[1::2, :, 1]])
    assert written(target)[2048:] == expected.tobytes()


def test_file_object_is_left_open_and_gets_all_in_one_go(stereo: Units) -> None:
    file = io.BytesIO()
    writer = AeaWriter(file, 2)
    writer.write(stereo)
    assert file.getvalue() == b""
    writer.close()
    assert not file.closed
    assert len(file.getvalue()) == 2048 + stereo.size


def test_file_object_that_cannot_seek_is_enough(stereo: Units) -> None:
    class Pipe:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

        def flush(self) -> None:
            pass

    pipe = Pipe()
    with AeaWriter(pipe, 2) as writer:  # type: ignore[arg-type]
        writer.write(stereo)
    assert pipe.data == AeaHeader.make(2, 18).data + stereo.tobytes()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), channels=st.sampled_from((1, 2)), frames=st.integers(0, 5))
def test_copy_with_its_header_is_the_same_file(seed: int, channels: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(rng.bytes(2048 + frames * channels * 212))
    data[:4] = b"\x00\x08\x00\x00"
    data[264] = channels
    reader = AeaReader(io.BytesIO(bytes(data)))
    assert reader.header.data == data[:2048]
    copy = io.BytesIO()
    with AeaWriter(copy, reader.channels, header=reader.header) as writer:
        for units in reader.blocks(2):
            writer.write(units)
    assert copy.getvalue() == data


@pytest.mark.parametrize("channels", [0, 3])
def test_writer_refuses_other_channels_and_leaves_nothing(channels: int, tmp_path: Path) -> None:
    with pytest.raises(AeaError) as caught:
        AeaWriter(tmp_path / "out.aea", channels)
    assert str(caught.value) == f"channels = {channels}, allowed 1 and 2"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("units", "found"),
    [
        (np.zeros((3, 1, 212), np.uint8), "uint8 [3, 1, 212]"),
        (np.zeros((3, 2, 211), np.uint8), "uint8 [3, 2, 211]"),
        (np.zeros((2, 212), np.uint8), "uint8 [2, 212]"),
        (np.zeros((1, 3, 2, 212), np.uint8), "uint8 [1, 3, 2, 212]"),
        (np.zeros((), np.uint8), "uint8 []"),
        (np.zeros((3, 2, 212), np.int16), "int16 [3, 2, 212]"),
        (np.zeros((3, 2, 212), np.int8), "int8 [3, 2, 212]"),
    ],
    ids=str,
)
def test_writer_refuses_other_shapes_and_dtypes(units: NDArray[Any], found: str) -> None:
    file = io.BytesIO()
    with AeaWriter(file, 2) as writer:
        with pytest.raises(ValueError) as caught:
            writer.write(units)
        assert writer.frames == 0
    assert str(caught.value) == f"units is {found}, expected uint8 [F, 2, 212]"
    assert len(file.getvalue()) == 2048


# Writer: all or nothing ---------------------------------------------------------------------------


class Boom(Exception):
    pass


def write_and_raise(target: Any, units: Units, error: type[BaseException]) -> None:
    with AeaWriter(target, 2) as writer:
        writer.write(units)
        raise error


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("frames", [0, 9])
def test_nothing_is_left_after_an_exception(
    error: type[BaseException], frames: int, place: Path, temporary: Path, stereo: Units
) -> None:
    for target in (place / "out.aea", io.BytesIO()):
        with pytest.raises(error):
            write_and_raise(target, stereo[:frames], error)
        if isinstance(target, io.BytesIO):
            assert target.getvalue() == b""
    assert list(place.iterdir()) == list(temporary.iterdir()) == []


def test_nothing_is_left_after_abort_and_close_cannot_bring_it_back(
    place: Path, temporary: Path, stereo: Units
) -> None:
    for target in (place / "out.aea", io.BytesIO()):
        writer = AeaWriter(target, 2)
        writer.write(stereo)
        writer.abort()
        writer.abort()
        writer.close()
        if isinstance(target, io.BytesIO):
            assert target.getvalue() == b""
    assert list(place.iterdir()) == list(temporary.iterdir()) == []


def test_closing_twice_and_aborting_after_is_harmless(place: Path, temporary: Path, stereo: Units) -> None:
    for target in (place / "out.aea", io.BytesIO()):
        with AeaWriter(target, 2) as writer:
            writer.write(stereo)
            writer.close()
            before = written(target)
            writer.close()
        writer.abort()
        assert written(target) == before == AeaHeader.make(2, 18).data + stereo.tobytes()
        with pytest.raises(ValueError, match="closed"):
            writer.write(stereo)
    assert [path.name for path in place.iterdir()] == ["out.aea"]
    assert list(temporary.iterdir()) == []


def test_the_name_is_not_there_before_close(place: Path, stereo: Units) -> None:
    path = place / "out.aea"
    writer = AeaWriter(path, 2)
    writer.write(stereo)
    assert not path.exists()
    assert len(list(place.iterdir())) == 1
    writer.close()
    assert list(place.iterdir()) == [path]


def test_existing_file_is_replaced_on_success_only(place: Path, stereo: Units) -> None:
    path = place / "out.aea"
    path.write_bytes(b"old")
    with pytest.raises(Boom):
        write_and_raise(path, stereo, Boom)
    assert path.read_bytes() == b"old"
    writer = AeaWriter(path, 2)
    writer.write(stereo)
    assert path.read_bytes() == b"old"
    writer.close()
    assert path.read_bytes() == AeaHeader.make(2, 18).data + stereo.tobytes()
    assert list(place.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0, 0o666)])
def test_file_has_the_permissions_that_the_umask_leaves(mask: int, mode: int, place: Path) -> None:
    before = os.umask(mask)
    try:
        with AeaWriter(place / "out.aea", 1):
            pass
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (place / "out.aea").stat().st_mode & 0o777 == mode


class FullDisk(io.FileIO):
    """A file on a disk that has room for so many bytes."""

    room = 0

    def write(self, data: Any) -> int:
        if self.tell() + len(memoryview(data).cast("B")) > self.room:
            raise OSError(errno.ENOSPC, "no space left")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 1, 2047, 2048, 2048 + 212, 2048 + 2000, 2048 + 9 * 424 - 1])
@pytest.mark.parametrize("existing", [False, True])
def test_nothing_is_left_by_a_full_disk(
    room: int, existing: bool, place: Path, stereo: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "out.aea"
    if existing:
        path.write_bytes(b"old")
    before = list(place.iterdir())
    real = Path.open

    def limited(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "+" not in mode and "w" not in mode:
            return real(self, mode, *args, **kwargs)
        raw = FullDisk(self, mode.replace("b", ""))
        raw.room = room
        return io.BufferedRandom(raw, 512)

    monkeypatch.setattr(Path, "open", limited)

    def save() -> None:
        with AeaWriter(path, 2) as writer:
            for frame in stereo:
                writer.write(frame[None])

    with pytest.raises(OSError, match="no space left"):
        save()
    assert list(place.iterdir()) == before
    if existing:
        assert path.read_bytes() == b"old"


def test_full_disk_has_room_for_what_fits(place: Path, stereo: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    # The test above would be worthless if its disk refused everything.
    monkeypatch.setattr(FullDisk, "room", 2048 + stereo.size)
    raw = FullDisk(place / "file", "w")
    with io.BufferedWriter(raw) as file:
        file.write(AeaHeader.make(2, 18).data + stereo.tobytes())
    assert (place / "file").stat().st_size == 2048 + stereo.size


@pytest.mark.parametrize("room", [0, 1, 2047, 2048, 4000])
def test_nothing_temporary_is_left_by_a_file_object_that_fails(room: int, temporary: Path, stereo: Units) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if len(self.getvalue()) + len(data) > room:
                raise OSError(errno.ENOSPC, "no space left")
            return super().write(data)

    writer = AeaWriter(Full(), 2)
    writer.write(stereo)
    with pytest.raises(OSError, match="no space left"):
        writer.close()
    assert list(temporary.iterdir()) == []
    writer.close()
    writer.abort()


def test_nothing_is_left_where_the_name_is_taken_by_a_folder(place: Path, stereo: Units) -> None:
    (place / "out.aea").mkdir()
    writer = AeaWriter(place / "out.aea", 2)
    writer.write(stereo)
    with pytest.raises(OSError):
        writer.close()
    assert list(place.iterdir()) == [place / "out.aea"]
    assert list((place / "out.aea").iterdir()) == []


def test_missing_folder_is_an_os_error(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AeaWriter(place / "none" / "out.aea", 2)


def test_nothing_is_left_by_a_length_that_fits_no_tag(place: Path) -> None:
    writer = AeaWriter(place / "out.aea", 2)
    writer.samples = -1
    with pytest.raises((AeaError, struct.error)):
        writer.close()
    assert list(place.iterdir()) == []


def test_writer_refuses_a_header_of_other_channels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channels = 2, but the header given has 1"):
        AeaWriter(tmp_path / "x.aea", 2, header=AeaHeader.make(1))
    assert list(tmp_path.iterdir()) == []
