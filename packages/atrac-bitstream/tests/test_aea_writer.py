"""Writing AEA files: header and frames, all of it or nothing."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream import AeaError, AeaHeader, AeaWriter

Units = NDArray[np.uint8]


@pytest.fixture(params=["path", "text path", "BytesIO"])
def target(request: pytest.FixtureRequest, place: Path) -> Any:
    path = place / "out.aea"
    return {"path": path, "text path": str(path), "BytesIO": io.BytesIO()}[request.param]


def written(target: Any) -> bytes:
    """Return what the target holds; nothing if there is no file."""
    if isinstance(target, io.BytesIO):
        return target.getvalue()
    return Path(target).read_bytes() if Path(target).exists() else b""


@pytest.mark.parametrize("samples", [None, 0, 4321])
def test_written_file_is_header_and_frames_when_closed(
    samples: int | None, target: Any, stereo: Units, temporary: Path
) -> None:
    writer = AeaWriter(target, 2, "クラシック")
    assert (writer.channels, writer.frames, writer.samples) == (2, 0, None)
    for frames in (stereo[:4], stereo[4:4], np.asfortranarray(stereo[4:])):
        writer.write(frames)
    assert writer.frames == 9
    writer.samples = samples
    assert written(target) == b""
    writer.close()
    expected = AeaHeader.make(2, 18, "クラシック", samples).data + stereo.tobytes()
    assert written(target) == expected
    writer.close()
    writer.abort()
    assert written(target) == expected
    assert list(temporary.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        writer.write(stereo)
    assert not isinstance(target, io.BytesIO) or not target.closed


def test_file_object_that_cannot_seek_is_enough(stereo: Units) -> None:
    class Pipe:
        data = b""

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

        def flush(self) -> None:
            pass

    pipe = Pipe()
    with AeaWriter(pipe, 2) as writer:  # type: ignore[arg-type]
        writer.write(stereo)
    assert pipe.data == AeaHeader.make(2, 18).data + stereo.tobytes()


@pytest.mark.parametrize(
    ("units", "found"),
    [
        (np.zeros((3, 1, 212), np.uint8), "uint8 [3, 1, 212]"),
        (np.zeros((2, 212), np.uint8), "uint8 [2, 212]"),
        (np.zeros((1, 3, 2, 212), np.uint8), "uint8 [1, 3, 2, 212]"),
        (np.zeros((), np.uint8), "uint8 []"),
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
    assert file.getvalue() == AeaHeader.make(2).data


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (0, {}, "channels = 0, allowed 1 and 2"),
        (3, {}, "channels = 3, allowed 1 and 2"),
        (2, {"header": AeaHeader.make(1)}, "channels = 2, but the header given has 1"),
    ],
)
def test_writer_refuses_other_channels_and_leaves_nothing(
    channels: int, options: dict[str, Any], message: str, place: Path
) -> None:
    with pytest.raises((AeaError, ValueError), match=message):
        AeaWriter(place / "out.aea", channels, **options)
    assert list(place.iterdir()) == []


# All or nothing -----------------------------------------------------------------------------------


def abort(writer: AeaWriter) -> None:
    writer.abort()
    writer.abort()
    writer.close()


def raises(error: type[BaseException]) -> Callable[[AeaWriter], None]:
    def leave(writer: AeaWriter) -> None:
        with pytest.raises(error), writer:
            raise error

    return leave


def length_that_fits_no_tag(writer: AeaWriter) -> None:
    writer.samples = -1
    with pytest.raises(AeaError):
        writer.close()


@pytest.mark.parametrize(
    "leave",
    [abort, raises(RuntimeError), raises(KeyboardInterrupt), raises(GeneratorExit), length_that_fits_no_tag],
)
@pytest.mark.parametrize("existing", [b"", b"old"])
def test_nothing_is_left_and_what_was_there_stays(
    leave: Callable[[AeaWriter], None], existing: bytes, target: Any, place: Path, temporary: Path, stereo: Units
) -> None:
    if existing and not isinstance(target, io.BytesIO):
        Path(target).write_bytes(existing)
    before, content = list(place.iterdir()), written(target)
    writer = AeaWriter(target, 2)
    writer.write(stereo)
    leave(writer)
    assert written(target) == content
    assert list(place.iterdir()) == before
    assert list(temporary.iterdir()) == []
