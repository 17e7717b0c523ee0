"""Anything for input: a sound unit, frames or an error of ours come out, nothing else, and all that is good is kept."""

import contextlib
import errno
import io
import os
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
    AeaHeader,
    AeaReader,
    AtracError,
    Damage,
    DamagePolicy,
    RaiseDamage,
    RepeatDamage,
    SilenceDamage,
    SoundUnit,
    SoundUnitError,
    UnitArrays,
    find_damage,
    read_info,
    repair_file,
    unpack_units,
)

Units = NDArray[np.uint8]
Golden = tuple[Units, UnitArrays]
FailsAfter = Callable[..., BinaryIO]
Mend = Callable[[bytes, int, bool], tuple[bytes, list[Damage]]]
EVERY_POLICY = {"none": None, "raise": RaiseDamage(), "silence": SilenceDamage(), "repeat": RepeatDamage()}


# Any bytes ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_212_bytes_give_a_unit_that_packs_to_them_or_an_error(
    data: st.DataObject, any_bytes: st.SearchStrategy[bytes]
) -> None:
    raw = data.draw(any_bytes)
    with contextlib.suppress(SoundUnitError):
        assert SoundUnit.unpack(raw).pack() == raw


class Patient(io.BytesIO):
    """Loses its patience with a reader that never ends."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        assert self.reads < 1000, "the reader hangs"
        return super().read(size)


@st.composite
def any_file(draw: st.DrawFn) -> bytes:
    """Draw any bytes, most of which begin like an AEA file."""
    start = draw(st.sampled_from([b"", b"\x00\x08\x00\x00"]))
    data = draw(st.binary(max_size=600))
    raw = bytearray((start + data * 2).ljust(2048, b"\0") + data)
    raw[264] = draw(st.integers(0, 3))
    return bytes(raw[: draw(st.integers(0, 2048 + 3 * 212))])


@pytest.mark.parametrize("policy", EVERY_POLICY.values(), ids=EVERY_POLICY)
@settings(deadline=None, max_examples=60)
@given(data=any_file() | st.binary(max_size=3000), block=st.integers(1, 5), raw=st.sampled_from((0, 1, 2)))
def test_any_bytes_give_frames_and_facts_or_an_error_of_ours(
    policy: DamagePolicy | None, data: bytes, block: int, raw: int
) -> None:
    header = AeaHeader.make(raw) if raw else None
    with contextlib.suppress(AtracError):
        read_info(Patient(data), block, header=header)
    try:
        with AeaReader(Patient(data), policy, header=header) as reader:
            blocks = list(reader.blocks(block))
    except AtracError:
        return
    payload = data if raw else data[2048:]
    assert reader.position == sum(map(len, blocks)) == -(-len(payload) // (212 * reader.channels))
    for units in blocks:
        assert units.dtype == np.uint8
        assert units.shape[1:] == (reader.channels, 212)
        assert policy is None or find_damage(units) == {}


# Thousands of damaged files -----------------------------------------------------------------------

HEADER_FIELDS = np.r_[0:5, 200:220, 258:268, 1024:1040]
"""Where a change to the header means something."""


def damaged_file(rng: np.random.Generator, data: bytes) -> bytes:
    """Damage a file in one to three ways: in the sound units, anywhere in the header, or in one of its fields."""
    for kind in rng.choice(6, rng.integers(1, 4), p=[0.15, 0.25, 0.15, 0.15, 0.2, 0.1]):
        head = min(2048, len(data))
        places = [int(rng.integers(head, len(data) + 1)), int(rng.integers(head + 1)), int(rng.choice(HEADER_FIELDS))]
        at, length = places[rng.choice(3, p=[0.8, 0.1, 0.1])], int(rng.choice([1, 2, 211, 212, 424]))
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + bytes(byte ^ 1 << int(rng.integers(8)) for byte in data[at : at + 1]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + rng.bytes(length) + data[at:]
        elif kind == 3:
            data = data[:at] + data[at + length :]
        elif kind == 4:
            run = [rng.bytes(length), bytes(length), b"\xff" * length][rng.integers(3)]
            data = (data[:at] + run + data[at + length :])[: len(data)]
        elif len(data) > 264:
            data = data[:264] + bytes([int(rng.integers(1, 4))]) + data[265:]
    return data


def read(data: bytes, policy: DamagePolicy | None, block: int) -> tuple[bytes, list[Damage]] | AtracError:
    """Read all frames, or return the error; any other exception is a failure of the test."""
    try:
        with AeaReader(Patient(data), policy) as reader:
            return b"".join(units.tobytes() for units in reader.blocks(block)), reader.damages
    except AtracError as error:
        return error


FILES_PER_SEED = 500


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
def test_damaged_files_give_every_good_unit_as_it_is_and_readable_ones_for_the_others(
    seed: int, all_golden: dict[str, Golden], mend: Mend
) -> None:
    rng = np.random.default_rng(seed)
    units = all_golden["voice_mono" if seed % 2 else "clicks_stereo"][0][:6]
    whole = AeaHeader.make(units.shape[1], units[..., 0].size, "golden", samples=2000).data + units.tobytes()
    seen = dict.fromkeys(("good files", "headers refused", "damaged units", "cuts"), 0)
    handed_out = b""
    for number in range(FILES_PER_SEED):
        data, block = damaged_file(rng, whole), int(rng.choice([1, 2, 3, 4, 5, 100]))
        raw, raised, silence, repeat = (read(data, policy, block) for policy in EVERY_POLICY.values())
        try:
            channels = AeaHeader(data[:2048]).channels
        except AtracError as refusal:  # nothing but the header is ever refused, and by all alike
            alike = {(type(error), str(error)) for error in (refusal, raw, raised, silence, repeat)}
            assert len(alike) == 1
            seen["headers refused"] += 1
            continue
        mended, damages = mend(data[2048:], channels, False)
        assert silence == (mended, damages), (seed, number)
        assert repeat == mend(data[2048:], channels, True), (seed, number)
        assert str(raised) == str(damages[0]) if damages else raised == (data[2048:], [])
        cut = any(damage.cut for damage in damages)
        assert isinstance(raw, AtracError) if cut else raw == (data[2048:], [])
        handed_out += mended
        for name, count in (("good files", not damages), ("damaged units", len(damages)), ("cuts", cut)):
            seen[name] += int(count)
    unpack_units(np.frombuffer(handed_out, np.uint8).reshape(-1, 212))
    # None of what is claimed above is claimed about nothing.
    assert min(seen.values()) >= FILES_PER_SEED // 50, seen


# Files that fail ----------------------------------------------------------------------------------


@pytest.fixture(params=["whole", "short", "damaged"])
def data(request: pytest.FixtureRequest, aea_bytes: bytes) -> bytes:
    """A file, with or without damage."""
    changed = bytearray(aea_bytes)
    if request.param == "damaged":
        changed[2048 + 424 * 5] = 0xFF
    return bytes(changed[: -100 if request.param == "short" else None])


def fail_at_each_operation(make: Callable[[int], Any], use: Callable[[Any], Any]) -> Any:
    """Use a file that fails after 0, 1, 2, … operations, until that is enough; return the result."""
    for operations in range(200):
        try:
            result = use(make(operations))
        except OSError as error:
            assert error.errno == errno.EIO  # noqa: PT017
        else:
            assert operations > 1
            return result
    pytest.fail("the file was never read through")


@pytest.mark.parametrize("most", [1 << 30, 700])
@pytest.mark.parametrize("policy", EVERY_POLICY.values(), ids=EVERY_POLICY)
def test_a_source_that_fails_gives_nothing_but_os_errors_and_leaves_the_target(
    policy: DamagePolicy | None, most: int, data: bytes, place: Path, fails_after: FailsAfter
) -> None:
    target = place / "out.aea"
    target.write_bytes(b"old")

    def use(file: BinaryIO) -> Any:
        assert [path.read_bytes() for path in place.iterdir()] == [b"old"]
        try:
            if policy is not None:
                return repair_file(file, target, policy, block=2)
            return [units.tobytes() for units in AeaReader(file).blocks(2)], read_info(io.BytesIO(data), block=2)
        except AtracError as error:
            return str(error)

    result = fail_at_each_operation(lambda n: fails_after(data, n, most), use)
    target.write_bytes(b"old")
    assert result == use(io.BytesIO(data))


def test_a_target_object_that_fails_is_an_os_error_and_leaves_nothing_temporary(data: bytes, temporary: Path) -> None:
    class Broken(io.BytesIO):
        def __init__(self, operations: int) -> None:
            super().__init__()
            self.left = operations

        def write(self, data: Any) -> int:
            self.flush()
            return super().write(data)

        def flush(self) -> None:
            if not self.left:
                raise OSError(errno.EIO, "the disk is broken")
            self.left -= 1

    def use(file: Broken) -> bytes:
        assert list(temporary.iterdir()) == []
        repair_file(io.BytesIO(data), file, SilenceDamage())
        return file.getvalue()

    assert len(fail_at_each_operation(Broken, use)) == 2048 + 9 * 424
    assert list(temporary.iterdir()) == []


class BrokenDisk:
    """Lets so many operations on the file that is written pass, and fails all after them but removing it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1000
        count = self.count

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                count()
                return super().write(data)

        real_open = Path.open

        def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            count()
            if "+" in mode:
                return io.BufferedRandom(File(path, mode.replace("b", "")), 512)
            return real_open(path, mode, *args, **options)

        monkeypatch.setattr(Path, "open", opened)
        for owner, name in [(tempfile, "mkstemp"), (os, "fsync"), (os, "replace"), (Path, "chmod")]:
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))

    def count(self) -> None:
        if not self.left:
            raise OSError(errno.EIO, "the disk is broken")
        self.left -= 1

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            self.count()
            return function(*args, **options)

        return run


@pytest.fixture
def broken_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokenDisk]:
    with monkeypatch.context() as patch:
        yield BrokenDisk(patch)


@pytest.mark.parametrize("target_name", ["in.aea", "out.aea", "new.aea"])
def test_a_disk_that_fails_leaves_the_files_of_a_repair_as_they_were(
    target_name: str, data: bytes, place: Path, broken_disk: BrokenDisk
) -> None:
    def content() -> dict[str, bytes]:
        broken_disk.left = 1000
        return {path.name: path.read_bytes() for path in place.iterdir()}

    (place / "in.aea").write_bytes(data)
    (place / "out.aea").write_bytes(b"old")
    before = content()

    def use(operations: int) -> None:
        assert content() == before
        broken_disk.left = operations
        repair_file(place / "in.aea", place / target_name, SilenceDamage(), block=2)

    fail_at_each_operation(int, use)
    broken_disk.left, expected = 1000, io.BytesIO()
    repair_file(io.BytesIO(data), expected, SilenceDamage())
    assert content() == {**before, target_name: expected.getvalue()}
