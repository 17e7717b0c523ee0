"""Reading AEA files from anything that reads, and how many frames a recording takes."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import CODEC_DELAY, FRAMES_MULTIPLE, AeaHeader, AeaReader, TruncatedError, frames_for

Units = NDArray[np.uint8]
Part = Callable[..., BinaryIO]
MONO_HEADER = bytes.fromhex("00080000") + bytes(260) + b"\x01" + bytes(1783)
"""A header of zeros but for what must be there."""


# Reader -------------------------------------------------------------------------------------------


@pytest.fixture(params=["path", "text path", "BytesIO", "raw file", "trickle 1", "trickle 211", "trickle 5000"])
def source(request: pytest.FixtureRequest, tmp_path: Path, aea_bytes: bytes, trickle: Part) -> Iterator[Any]:
    """Give something to read from, of each kind."""
    path = tmp_path / "golden.aea"
    path.write_bytes(aea_bytes)
    kind = request.param
    if kind == "raw file":
        with path.open("rb", buffering=0) as file:
            yield file
    elif kind.startswith("trickle"):
        yield trickle(aea_bytes, int(kind.split()[1]))
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
def test_blocks_joined_equal_one_read(frames: int, stereo: Units, aea_bytes: bytes, trickle: Part) -> None:
    for source in (io.BytesIO(aea_bytes), trickle(aea_bytes, 333)):
        blocks = list(AeaReader(source).blocks(frames))
        assert [len(block) for block in blocks[:-1]] == [frames] * (len(blocks) - 1)
        assert 0 < len(blocks[-1]) <= frames
        assert (np.concatenate(blocks) == stereo).all()


def test_blocks_go_on_where_reading_stopped(stereo: Units, aea_bytes: bytes) -> None:
    reader = AeaReader(io.BytesIO(aea_bytes))
    reader.read(4)
    assert (np.concatenate(list(reader.blocks(3))) == stereo[4:]).all()


def test_a_file_of_no_frames_is_no_error() -> None:
    reader = AeaReader(io.BytesIO(MONO_HEADER))
    assert reader.read().shape == (0, 1, 212)
    assert list(reader.blocks(8)) == []


def test_mono_and_stereo_are_told_apart_by_the_header_alone(stereo: Units) -> None:
    reader = AeaReader(io.BytesIO(MONO_HEADER + stereo.tobytes()))
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
def test_file_that_ends_in_its_header_is_refused(length: int, tmp_path: Path, aea_bytes: bytes, trickle: Part) -> None:
    path = tmp_path / "short.aea"
    path.write_bytes(aea_bytes[:length])
    for source in (path, io.BytesIO(aea_bytes[:length]), trickle(aea_bytes[:length], 100)):
        with pytest.raises(TruncatedError) as caught:
            AeaReader(source)
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
    reader = AeaReader(io.BytesIO(MONO_HEADER + bytes(2 * 212 + rest)))
    assert reader.read(1).shape == (1, 1, 212)
    with pytest.raises(TruncatedError) as caught:
        reader.read()
    assert str(caught.value) == f"the file ends in frame 2, after {rest} of 212 bytes (1 sound units of 212 bytes)"


@pytest.mark.parametrize("read", [lambda reader: reader.read(), lambda reader: reader.read(3)])
def test_a_file_that_fails_after_its_header_gives_an_os_error(
    read: Callable[[AeaReader], Units], aea_bytes: bytes, fails_after: Part
) -> None:
    reader = AeaReader(fails_after(aea_bytes, 1))
    with pytest.raises(OSError, match="the disk is broken"):
        read(reader)


def test_reader_accepts_any_binary_io(aea_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "golden.aea"
    path.write_bytes(aea_bytes)
    file: BinaryIO
    with path.open("rb") as file:
        assert AeaReader(file).read().shape == (9, 2, 212)
        assert not file.closed


def test_read_all_asks_again_after_a_short_read() -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size, 100) if size is not None and size >= 0 else 100)

    data = AeaHeader.make(1).data + bytes(range(212)) * 7
    assert len(AeaReader(Trickle(data)).read()) == 7


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


@pytest.mark.parametrize(("samples", "multiple"), [(-1, 8), (5, 0)])
def test_frames_for_refuses_what_is_below_its_range(samples: int, multiple: int) -> None:
    with pytest.raises(ValueError, match=f"samples = {samples}, multiple = {multiple}, allowed"):
        frames_for(samples, multiple)
