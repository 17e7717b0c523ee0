"""Reading AEA files from anything that reads, and how many frames a recording takes."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import AeaHeader, AeaReader, RepeatDamage, TruncatedError, frames_for

Units = NDArray[np.uint8]


class Trickle(io.RawIOBase):
    """Reads like a socket: cannot seek, and gives at most a few bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._file, self._most = io.BytesIO(data), most

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size if size < 0 else min(size, self._most))


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


def test_reader_gives_frames_from_any_source_and_counts_them(source: Any, stereo: Units) -> None:
    with AeaReader(source) as reader:
        assert (reader.channels, reader.position, reader.header.title) == (2, 0, "golden")
        at = 0
        for asked, expected in [(2, 2), (0, 0), (1, 1), (-1, 6), (4, 0), (-1, 0), (0, 0)]:
            units = reader.read(asked)
            assert units.dtype == np.uint8
            assert units.shape == (expected, 2, 212)
            assert (units == stereo[at : at + expected]).all()
            at += expected
            assert reader.position == at


@pytest.mark.parametrize("frames", [1, 2, 4, 9, 1000])
def test_blocks_go_on_where_reading_stopped(frames: int, stereo: Units, aea_bytes: bytes) -> None:
    for source in (io.BytesIO(aea_bytes), Trickle(aea_bytes, 333)):
        reader = AeaReader(source)
        reader.read(1)
        blocks = list(reader.blocks(frames))
        assert [len(block) for block in blocks[:-1]] == [frames] * (len(blocks) - 1)
        assert 0 < len(blocks[-1]) <= frames
        assert (np.concatenate(blocks) == stereo[1:]).all()


@pytest.mark.parametrize("policy", [None, RepeatDamage()])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("with_header", [True, False])
def test_channels_are_those_of_the_header_and_its_count_is_not_relied_on(
    with_header: bool, channels: int, policy: Any, stereo: Units
) -> None:
    header = AeaHeader.make(channels, 2**32 - 1)
    file = io.BytesIO(header.data * with_header + stereo.tobytes())
    reader = AeaReader(file, policy, header=None if with_header else header)
    assert (reader.read() == stereo.reshape(-1, channels, 212)).all()
    nothing = AeaReader(io.BytesIO(header.data * with_header), policy, header=None if with_header else header)
    assert list(nothing.blocks(8)) == []
    assert nothing.read().shape == (0, channels, 212)


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


@pytest.mark.parametrize("length", [0, 1, 264, 2047])
@pytest.mark.parametrize("policy", [None, RepeatDamage()])
def test_file_that_ends_in_its_header_is_refused(policy: Any, length: int, tmp_path: Path, aea_bytes: bytes) -> None:
    path = tmp_path / "short.aea"
    path.write_bytes(aea_bytes[:length])
    for source in (path, io.BytesIO(aea_bytes[:length]), Trickle(aea_bytes[:length], 100)):
        with pytest.raises(TruncatedError) as caught:
            AeaReader(source, policy)
        assert str(caught.value) == f"the file ends after {length} bytes, a header has 2048"


@pytest.mark.parametrize(("frame", "rest"), [(0, 1), (0, 212), (0, 423), (1, 1), (8, 423)])
@pytest.mark.parametrize("block", [-1, 1, 2, 100])
@pytest.mark.parametrize("channels", [1, 2])
def test_file_that_ends_in_a_frame_names_the_frame(
    channels: int, block: int, frame: int, rest: int, stereo: Units
) -> None:
    size, rest = 212 * channels, min(rest, 212 * channels - 1)
    file = io.BytesIO(AeaHeader.make(channels).data + stereo.tobytes()[: frame * size + rest])
    whole: list[Units] = []
    with pytest.raises(TruncatedError) as caught:
        whole.extend(AeaReader(file).blocks(block))
    expected = f"the file ends in frame {frame}, after {rest} of {size} bytes ({channels} sound units of 212 bytes)"
    assert str(caught.value) == expected
    if block == 1:
        assert b"".join(units.tobytes() for units in whole) == stereo.tobytes()[: frame * size]


@pytest.mark.parametrize("frames", [0, -2])
def test_blocks_of_no_frames_are_refused(frames: int, aea_bytes: bytes) -> None:
    with pytest.raises(ValueError, match=f"frames = {frames}, allowed -1 and from 1 on"):
        list(AeaReader(io.BytesIO(aea_bytes)).blocks(frames))


# frames_for ---------------------------------------------------------------------------------------


@given(samples=st.integers(0, 1 << 40), multiple=st.integers(1, 100))
def test_frames_for_gives_the_least_that_carries_the_delayed_samples(samples: int, multiple: int) -> None:
    frames = frames_for(samples, multiple)
    assert frames % multiple == 0
    assert frames_for(samples) == frames_for(samples, 8)
    assert frames * 512 >= samples + 266
    assert (frames - multiple) * 512 < samples + 266


@pytest.mark.parametrize(("samples", "multiple"), [(-1, 8), (5, 0)])
def test_frames_for_refuses_what_is_below_its_range(samples: int, multiple: int) -> None:
    with pytest.raises(ValueError, match=f"samples = {samples}, multiple = {multiple}, allowed"):
        frames_for(samples, multiple)
