"""AEA files: the header byte by byte, reading from anything that reads, writing all or nothing."""

import contextlib
import errno
import io
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import (
    CODEC_DELAY,
    FRAMES_MULTIPLE,
    AeaError,
    AeaHeader,
    AeaReader,
    AeaWriter,
    AtracError,
    TruncatedError,
    frames_for,
    read_info,
)

Units = NDArray[np.uint8]


def header_bytes(changes: dict[int, bytes], channels: int = 1) -> bytes:
    """Return a header of zeros but for what must be there and some changes, by offset."""
    data = bytearray(2048)
    for offset, part in {0: b"\x00\x08\x00\x00", 264: bytes([channels]), **changes}.items():
        data[offset : offset + len(part)] = part
    return bytes(data)


class Trickle:
    """Reads like a socket: cannot seek, and gives at most a few bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._file, self._most = io.BytesIO(data), most

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size if size < 0 else min(size, self._most))


class FailsAfter(Trickle):
    """Gives up after some operations."""

    def __init__(self, data: bytes, operations: int, most: int = 1 << 30) -> None:
        super().__init__(data, most)
        self.left = operations

    def read(self, size: int = -1) -> bytes:
        if not self.left:
            raise OSError(errno.EIO, "the disk is broken")
        self.left -= 1
        return super().read(size)


# Header: what is written --------------------------------------------------------------------------


def test_made_header_has_each_field_at_its_offset() -> None:
    data = AeaHeader.make(2, 0x01020304, "Suite", samples=0x1122334455667788).data
    assert len(data) == 2048
    expected = header_bytes(
        {
            4: b"Suite",
            210: b"\x08",
            260: bytes([4, 3, 2, 1]),
            264: b"\x02",
            1024: b"A1LENGTH" + bytes.fromhex("8877665544332211"),
        }
    )
    assert data == expected


def test_made_header_without_tag_is_zero_where_nothing_is_known() -> None:
    assert AeaHeader.make(1).data == header_bytes({210: b"\x08"})


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("unit_count", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("samples", [None, 0, 1, 2**64 - 1])
@pytest.mark.parametrize("title", ["", "a", "Étude", "クラシック"])
def test_views_read_what_was_made(channels: int, unit_count: int, samples: int | None, title: str) -> None:
    header = AeaHeader.make(channels, unit_count, title, samples)
    assert (header.channels, header.unit_count, header.title, header.samples) == (
        channels,
        unit_count,
        title,
        samples,
    )


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("a" * 205, "a" * 205),
        ("a" * 206, "a" * 205),
        ("a" * 1000, "a" * 205),
        ("a" * 204 + "é", "a" * 204),
        ("a" * 203 + "é", "a" * 203 + "é"),
        ("a" * 203 + "ク", "a" * 203),
        ("a" * 202 + "ク", "a" * 202 + "ク"),
        ("a" * 202 + "🎼", "a" * 202),
        ("a" * 201 + "🎼", "a" * 201 + "🎼"),
        ("é" * 103, "é" * 102),
        ("ク" * 69, "ク" * 68),
        ("🎼" * 52, "🎼" * 51),
    ],
)
def test_title_is_cut_at_a_character_to_205_bytes(title: str, kept: str) -> None:
    header = AeaHeader.make(2, 16, title)
    assert header.title == kept
    assert header.data[4 : 4 + len(kept.encode())] == kept.encode()
    assert not any(header.data[4 + len(kept.encode()) : 210])
    assert header.data[209:211] == b"\x00\x08"


@settings(deadline=None)
@given(title=st.text())
def test_any_title_leaves_the_other_fields_alone(title: str) -> None:
    header = AeaHeader.make(2, 7, title, 9)
    plain = AeaHeader.make(2, 7, "", 9)
    assert header.data[209:] == plain.data[209:]
    assert title.split("\0")[0].startswith(header.title)


def test_characters_that_no_file_can_hold_are_replaced() -> None:
    assert AeaHeader.make(1, title="a\ud800b").title == "a?b"


@pytest.mark.parametrize(
    ("channels", "unit_count", "message"),
    [
        (0, 0, "channels = 0, allowed 1 and 2"),
        (3, 0, "channels = 3, allowed 1 and 2"),
        (-1, 0, "channels = -1, allowed 1 and 2"),
        (1, -1, "-1 sound units, allowed 0..4294967295"),
        (1, 1 << 32, "4294967296 sound units, allowed 0..4294967295"),
    ],
)
def test_make_refuses_what_fits_no_field(channels: int, unit_count: int, message: str) -> None:
    with pytest.raises(AeaError) as caught:
        AeaHeader.make(channels, unit_count)
    assert str(caught.value) == message


@pytest.mark.parametrize("samples", [-1, 1 << 64])
def test_make_refuses_samples_that_fit_no_tag(samples: int) -> None:
    with pytest.raises(AeaError, match=f"{samples}.*allowed 0"):
        AeaHeader.make(1, samples=samples)


# Header: what is read -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "title"),
    [
        (b"plain\0rest is not read", "plain"),
        (b"\0never seen", ""),
        ("クラシック".encode(), "クラシック"),
        ("Étude".encode("latin-1"), "Étude"),
        (b"\xff\xfe", "ÿþ"),
        ("é".encode() * 103, "é" * 103),
        (b"a" * 206 + b"\0", "a" * 206),
        (b"a" * 256, "a" * 256),
        ("é".encode("latin-1") * 256, "é" * 256),
    ],
    ids=str,
)
def test_title_is_read_to_its_end_in_utf8_or_latin1(field: bytes, title: str) -> None:
    assert AeaHeader(header_bytes({4: field})).title == title


def test_title_does_not_run_into_the_count() -> None:
    assert AeaHeader(header_bytes({4: b"a" * 256, 260: b"bcde"})).title == "a" * 256


@pytest.mark.parametrize("length", [206, 256])
def test_mark_is_no_part_of_a_title_that_reaches_it(length: int) -> None:
    title = AeaHeader(header_bytes({4: b"a" * length, 210: b"\x08"})).title
    assert title.startswith("a" * 206)
    assert "\x08" not in title


@pytest.mark.parametrize("tag", [b"", b"A1LENGTX" + bytes(8), b"a1length" + bytes(8)])
def test_no_length_without_the_tag(tag: bytes) -> None:
    assert AeaHeader(header_bytes({1024: tag})).samples is None


def test_more_than_a_header_is_cut_to_one() -> None:
    data = header_bytes({4: b"long"})
    assert AeaHeader(data + b"more").data == data


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_header_takes_any_kind_of_bytes_and_keeps_its_own(kind: Callable[[bytes], Any]) -> None:
    assert AeaHeader(kind(header_bytes({}))).data == header_bytes({})


@pytest.mark.parametrize("length", [0, 1, 4, 264, 2047])
def test_short_header_is_refused(length: int) -> None:
    with pytest.raises(TruncatedError) as caught:
        AeaHeader(header_bytes({})[:length])
    assert str(caught.value) == f"the file ends after {length} bytes, a header has 2048"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: b"RIFF"}, "the file begins with 52 49 46 46, an AEA file with 00 08 00 00"),
        ({1: b"\x09"}, "the file begins with 00 09 00 00, an AEA file with 00 08 00 00"),
        ({3: b"\x01"}, "the file begins with 00 08 00 01, an AEA file with 00 08 00 00"),
        ({264: b"\x00"}, "channels = 0, allowed 1 and 2 (header byte 264)"),
        ({264: b"\x07"}, "channels = 7, allowed 1 and 2 (header byte 264)"),
    ],
    ids=str,
)
def test_what_is_no_aea_file_is_refused(changes: dict[int, bytes], message: str) -> None:
    for read in (
        AeaHeader,
        lambda data: AeaReader(io.BytesIO(data)),
        lambda data: read_info(io.BytesIO(data)),
    ):
        with pytest.raises(AeaError) as caught:
            read(header_bytes(changes))
        assert str(caught.value) == message
        assert not isinstance(caught.value, TruncatedError)


# Reader -------------------------------------------------------------------------------------------


@pytest.fixture(params=["path", "text path", "BytesIO", "raw file", "trickle 1", "trickle 211", "trickle 5000"])
def source(request: pytest.FixtureRequest, tmp_path: Path, aea_bytes: bytes) -> Iterator[Any]:
    """Give something to read from, of each kind."""
    path = tmp_path / "golden.aea"
    path.write_bytes(aea_bytes)
    kind = request.param
    if kind == "raw file":
        with path.open("rb", buffering=0) as file:
            yield file
    elif kind.startswith("trickle"):
        yield Trickle(aea_bytes, int(kind.split()[1]))
    else:
        yield {"path": path, "text path": str(path), "BytesIO": io.BytesIO(aea_bytes)}[kind]


def test_reader_gives_all_frames_from_any_source(source: Any, stereo: Units) -> None:
    with AeaReader(source) as reader:
        assert (reader.channels, reader.position, reader.header.title) == (2, 0, "golden")
        units = reader.read()
        assert units.dtype == np.uint8
        assert units.shape == stereo.shape
        assert (units == stereo).all()
        assert reader.position == 9
        for frames in (-1, 0, 1, 5):
            assert reader.read(frames).shape == (0, 2, 212)
        assert reader.position == 9


def test_reader_counts_frames_as_it_goes(source: Any, stereo: Units) -> None:
    with AeaReader(source) as reader:
        at = 0
        for wanted, got in [(2, 2), (0, 0), (1, 1), (5, 5), (4, 1), (4, 0)]:
            units = reader.read(wanted)
            assert (units == stereo[at : at + got]).all()
            assert len(units) == got
            at += got
            assert reader.position == at


@pytest.mark.parametrize("frames", [1, 2, 4, 8, 9, 10, 1000])
def test_blocks_joined_equal_one_read(frames: int, stereo: Units, aea_bytes: bytes) -> None:
    for source in (io.BytesIO(aea_bytes), Trickle(aea_bytes, 333)):
        blocks = list(AeaReader(source).blocks(frames))  # type: ignore[arg-type]
        assert [len(block) for block in blocks[:-1]] == [frames] * (len(blocks) - 1)
        assert 0 < len(blocks[-1]) <= frames
        assert (np.concatenate(blocks) == stereo).all()


def test_blocks_go_on_where_reading_stopped(stereo: Units, aea_bytes: bytes) -> None:
    reader = AeaReader(io.BytesIO(aea_bytes))
    reader.read(4)
    assert (np.concatenate(list(reader.blocks(3))) == stereo[4:]).all()


def test_a_file_of_no_frames_is_no_error() -> None:
    reader = AeaReader(io.BytesIO(header_bytes({}, channels=1)))
    assert reader.read().shape == (0, 1, 212)
    assert list(reader.blocks(8)) == []


def test_mono_and_stereo_are_told_apart_by_the_header_alone(stereo: Units) -> None:
    reader = AeaReader(io.BytesIO(header_bytes({}, channels=1) + stereo.tobytes()))
    assert (reader.read() == stereo.reshape(18, 1, 212)).all()


def test_count_in_the_header_is_not_relied_on(stereo: Units) -> None:
    for count in (0, 1, 2**32 - 1):
        file = io.BytesIO(AeaHeader.make(2, count).data + stereo.tobytes())
        assert (AeaReader(file).read() == stereo).all()


def test_file_object_is_left_open_and_a_path_is_closed(tmp_path: Path, aea_bytes: bytes) -> None:
    file = io.BytesIO(aea_bytes)
    with AeaReader(file):
        pass
    assert not file.closed
    path = tmp_path / "golden.aea"
    path.write_bytes(aea_bytes)
    reader = AeaReader(path)
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read()


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AeaReader(tmp_path / "none.aea")
    with pytest.raises(IsADirectoryError):
        AeaReader(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 264, 2047])
def test_file_that_ends_in_its_header_is_refused(length: int, tmp_path: Path, aea_bytes: bytes) -> None:
    path = tmp_path / "short.aea"
    path.write_bytes(aea_bytes[:length])
    for source in (path, io.BytesIO(aea_bytes[:length]), Trickle(aea_bytes[:length], 100)):
        with pytest.raises(TruncatedError) as caught:
            AeaReader(source)  # type: ignore[arg-type]
        assert str(caught.value) == f"the file ends after {length} bytes, a header has 2048"


ENDS = [(0, 1), (0, 211), (0, 212), (0, 213), (0, 423), (1, 1), (3, 212), (8, 423)]


@pytest.mark.parametrize(("frame", "rest"), ENDS)
@pytest.mark.parametrize("block", [-1, 1, 2, 4, 100])
def test_file_that_ends_in_a_frame_names_the_frame(
    frame: int, rest: int, block: int, aea_bytes: bytes, stereo: Units
) -> None:
    reader = AeaReader(io.BytesIO(aea_bytes[: 2048 + 424 * frame + rest]))
    whole: list[Units] = []
    with pytest.raises(TruncatedError) as caught:
        whole.extend(reader.blocks(block))
    expected = f"the file ends in frame {frame}, after {rest} of 424 bytes (2 sound units of 212 bytes)"
    assert str(caught.value) == expected
    if block == 1:
        assert len(whole) == frame
        assert all((one[0] == two).all() for one, two in zip(whole, stereo))


@pytest.mark.parametrize("rest", [1, 211])
def test_mono_file_that_ends_in_a_frame_names_it(rest: int) -> None:
    reader = AeaReader(io.BytesIO(header_bytes({}, channels=1) + bytes(2 * 212 + rest)))
    assert reader.read(1).shape == (1, 1, 212)
    with pytest.raises(TruncatedError) as caught:
        reader.read()
    assert str(caught.value) == f"the file ends in frame 2, after {rest} of 212 bytes (1 sound units of 212 bytes)"


@pytest.mark.parametrize("most", [1 << 30, 700])
def test_a_file_that_fails_gives_nothing_but_os_errors(most: int, aea_bytes: bytes) -> None:
    damaged = bytearray(aea_bytes)
    damaged[2048 + 424 * 5] = 0xFF
    ends = {
        "whole": aea_bytes,
        "short": aea_bytes[:-100],
        "damaged": bytes(damaged),
        "foreign": b"RIFF" * 600,
    }
    for kind, data in ends.items():
        failures = 0
        for operations in range(100):
            file = FailsAfter(data, operations, most)
            try:
                read_info(file, block=2)  # type: ignore[arg-type]
            except OSError:
                failures += 1
            except AtracError:
                assert kind != "whole"
                break
            else:
                assert kind == "whole"
                break
        else:
            pytest.fail("the file was never read through")
        assert failures > (0 if kind == "foreign" else 2)


@pytest.mark.parametrize("read", [lambda reader: reader.read(), lambda reader: reader.read(3)])
def test_a_file_that_fails_after_its_header_gives_an_os_error(
    read: Callable[[AeaReader], Units], aea_bytes: bytes
) -> None:
    reader = AeaReader(FailsAfter(aea_bytes, 1))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="the disk is broken"):
        read(reader)


@settings(deadline=None, max_examples=200)
@given(
    start=st.sampled_from([b"", b"\x00\x08\x00\x00"]),
    channels=st.integers(0, 3),
    data=st.binary(max_size=600),
    size=st.integers(0, 2048 + 3 * 212),
)
def test_any_bytes_give_facts_or_an_error_of_ours(start: bytes, channels: int, data: bytes, size: int) -> None:
    raw = bytearray((start + data * 2).ljust(2048, b"\0") + data)
    raw[264] = channels
    with contextlib.suppress(AtracError):
        read_info(io.BytesIO(bytes(raw[:size])))


# Writer -------------------------------------------------------------------------------------------


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


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder in which writers to file objects keep their temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


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


# frames_for ---------------------------------------------------------------------------------------


def test_delay_and_multiple_are_those_measured() -> None:
    assert (CODEC_DELAY, FRAMES_MULTIPLE) == (266, 8)


@pytest.mark.parametrize(
    ("samples", "multiple", "frames"),
    [
        (0, 1, 1),
        (246, 1, 1),  # 246 + 266 = 512
        (247, 1, 2),
        (44_100, 1, 87),
        (0, 8, 8),
        (8 * 512 - 266, 8, 8),
        (8 * 512 - 265, 8, 16),
        (44_100, 8, 88),
        (60 * 44_100, 8, 5176),
        (247, 3, 3),
    ],
)
def test_frames_for_rounds_up(samples: int, multiple: int, frames: int) -> None:
    assert frames_for(samples, multiple) == frames


def test_frames_for_takes_a_multiple_of_eight_by_default() -> None:
    assert [frames_for(samples) for samples in (1, 3830, 3831, 44_100)] == [8, 8, 16, 88]


@given(samples=st.integers(0, 1 << 40), multiple=st.integers(1, 100))
def test_frames_for_gives_the_least_that_carries_the_delayed_samples(samples: int, multiple: int) -> None:
    frames = frames_for(samples, multiple)
    assert frames % multiple == 0
    assert frames * 512 >= samples + 266
    assert (frames - multiple) * 512 < samples + 266


def test_reader_accepts_any_binary_io(aea_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "golden.aea"
    path.write_bytes(aea_bytes)
    file: BinaryIO
    with path.open("rb") as file:
        assert AeaReader(file).read().shape == (9, 2, 212)
        assert not file.closed


@pytest.mark.parametrize(("samples", "multiple"), [(-1, 8), (5, 0)])
def test_frames_for_refuses_what_is_below_its_range(samples: int, multiple: int) -> None:
    with pytest.raises(ValueError, match=f"samples = {samples}, multiple = {multiple}, allowed"):
        frames_for(samples, multiple)


def test_writer_refuses_a_header_of_other_channels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channels = 2, but the header given has 1"):
        AeaWriter(tmp_path / "x.aea", 2, header=AeaHeader.make(1))
    assert list(tmp_path.iterdir()) == []


def test_read_all_asks_again_after_a_short_read() -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size, 100) if size is not None and size >= 0 else 100)

    data = AeaHeader.make(1).data + bytes(range(212)) * 7
    assert len(AeaReader(Trickle(data)).read()) == 7
