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
EVERY_POLICY = {"none": None, "raise": RaiseDamage(), "silence": SilenceDamage(), "repeat": RepeatDamage()}
every_policy = pytest.mark.parametrize("policy", EVERY_POLICY.values(), ids=EVERY_POLICY)


# Any bytes ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_any_212_bytes_give_a_unit_that_packs_to_them_or_an_error(
    data: st.DataObject, any_bytes: st.SearchStrategy[bytes]
) -> None:
    raw = data.draw(any_bytes)
    try:
        unit = SoundUnit.unpack(raw)
    except SoundUnitError:
        return
    assert unit.pack() == raw


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


@settings(deadline=None, max_examples=200)
@given(data=any_file() | st.binary(max_size=3000))
def test_any_bytes_give_facts_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(AtracError):
        read_info(Patient(data))


@every_policy
@settings(deadline=None, max_examples=100)
@given(data=any_file() | st.binary(max_size=3000), block=st.integers(1, 5), raw=st.sampled_from((0, 1, 2)))
def test_any_bytes_give_frames_or_an_error_of_ours(
    policy: DamagePolicy | None, data: bytes, block: int, raw: int
) -> None:
    header = AeaHeader.make(raw) if raw else None
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
        if policy is not None:
            assert find_damage(units) == {}


# Thousands of damaged files -----------------------------------------------------------------------

HEADER_FIELDS = np.r_[0:5, 200:220, 258:268, 1024:1040]
"""Where a change to the header means something."""


def place(rng: np.random.Generator, data: bytes) -> int:
    """Choose a byte: in the sound units, anywhere in the header, or in one of its fields."""
    limits = [(min(2048, len(data)), len(data)), (0, min(2048, len(data)))]
    kind = rng.choice(3, p=[0.8, 0.1, 0.1])
    if kind == 2:
        return int(rng.choice(HEADER_FIELDS))
    return int(rng.integers(*limits[kind], endpoint=True))


def cut(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: place(rng, data)]


def flip(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        at = place(rng, data)
        if at < len(data):
            changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def insert(rng: np.random.Generator, data: bytes) -> bytes:
    at = place(rng, data)
    return data[:at] + rng.bytes(int(rng.choice([1, 2, 211, 212, 424]))) + data[at:]


def delete(rng: np.random.Generator, data: bytes) -> bytes:
    at = place(rng, data)
    return data[:at] + data[at + int(rng.choice([1, 2, 211, 212, 424])) :]


def overwrite(rng: np.random.Generator, data: bytes) -> bytes:
    at, length = place(rng, data), int(rng.integers(1, 500))
    run = [rng.bytes(length), bytes(length), b"\xff" * length][rng.integers(3)]
    return (data[:at] + run + data[at + length :])[: len(data)]


def change_channels(rng: np.random.Generator, data: bytes) -> bytes:
    return data[:264] + bytes([int(rng.integers(1, 4))]) + data[265:] if len(data) > 264 else data


def damaged_file(rng: np.random.Generator, data: bytes) -> bytes:
    """Damage a file in one to three ways."""
    for kind in rng.choice(6, rng.integers(1, 4), p=[0.15, 0.25, 0.15, 0.15, 0.2, 0.1]):
        data = (cut, flip, insert, delete, overwrite, change_channels)[kind](rng, data)
    return data


def read(data: bytes, policy: DamagePolicy | None, block: int) -> tuple[Units, list[Damage]] | AtracError:
    """Read all frames, or return the error; any other exception is a failure of the test."""
    try:
        with AeaReader(Patient(data), policy) as reader:
            blocks = list(reader.blocks(block))
            return np.concatenate([np.zeros((0, reader.channels, 212), np.uint8), *blocks]), reader.damages
    except AtracError as error:
        return error


def reasons_of(files: list[bytes]) -> list[dict[int, str]]:
    """Find what is wrong with the whole units of many files at once, counted from the first one of each."""
    units = [np.frombuffer(data[2048:], np.uint8)[: max(len(data) - 2048, 0) // 212 * 212] for data in files]
    starts = np.cumsum([0] + [len(one) // 212 for one in units])
    reasons: list[dict[int, str]] = [{} for _ in files]
    for (unit,), reason in find_damage(np.concatenate(units).reshape(-1, 212)).items():
        file = int(np.searchsorted(starts, unit, side="right")) - 1
        reasons[file][unit - int(starts[file])] = reason
    return reasons


def damages_of(data: bytes, channels: int, reasons: dict[int, str]) -> list[Damage]:
    """Return the damage of a file by what is wrong with its whole units, and by its length."""
    size = len(data) - 2048
    damages = [Damage(*divmod(unit, channels), reason) for unit, reason in sorted(reasons.items())]
    for unit in range(size // 212, -(-size // (212 * channels)) * channels):
        there = max(size - 212 * unit, 0)
        damages.append(Damage(*divmod(unit, channels), f"the file ends after {there} of 212 bytes", cut=True))
    return damages


FILES_PER_SEED = 1000


@pytest.mark.parametrize("seed", range(10))
def test_damaged_files_give_every_good_unit_as_it_is_and_readable_ones_for_the_others(
    seed: int, all_golden: dict[str, Golden]
) -> None:
    rng = np.random.default_rng(seed)
    golden = all_golden["voice_mono" if seed % 2 else "clicks_stereo"][0][:6]
    whole = AeaHeader.make(golden.shape[1], golden[..., 0].size, "golden", samples=2000).data + golden.tobytes()
    original = golden.reshape(-1, 212)
    files = [damaged_file(rng, whole) for _ in range(FILES_PER_SEED)]
    seen = dict.fromkeys(("good files", "headers refused", "damaged units", "cuts", "units kept", "other channels"), 0)
    handed_out = []
    for number, (data, reasons) in enumerate(zip(files, reasons_of(files))):
        block = int(rng.choice([1, 2, 3, 4, 5, 100], p=[0.1, 0.2, 0.2, 0.2, 0.2, 0.1]))
        results = {name: read(data, policy, block) for name, policy in EVERY_POLICY.items()}
        raw, raised, silence, repeat = results.values()
        if isinstance(silence, AtracError):  # nothing but the header is ever refused, and by all alike
            assert {(type(result), str(result)) for result in results.values()} == {(type(silence), str(silence))}
            with pytest.raises(type(silence)):
                AeaHeader(data[:2048])
            seen["headers refused"] += 1
            continue

        # Silence: what is damaged is named and silent, all else is as it stands in the file.
        units, damages = silence
        channels = units.shape[1]
        assert damages == damages_of(data, channels, reasons), (seed, number)
        payload = np.frombuffer(data, np.uint8)[2048:]
        there = payload[: len(payload) // 212 * 212].reshape(-1, 212)
        flat = units.reshape(-1, 212)
        bad = [damage.frame * channels + damage.channel for damage in damages]
        good = np.setdiff1d(np.arange(len(there)), bad)
        assert len(good) + len(bad) == len(flat)
        assert (flat[good] == there[good]).all(), (seed, number)
        assert (flat[bad, 0] == 0xAC).all()
        assert not flat[bad, 1:].any()
        common = min(len(original), len(there))
        same = np.flatnonzero((there[:common] == original[:common]).all(1))
        assert (flat[same] == original[same]).all(), (seed, number)
        handed_out.append(flat)

        # Repeat: the same, with the last good unit of the channel.
        assert not isinstance(repeat, AtracError)
        assert repeat[1] == damages
        last = [b"\xac" + bytes(211)] * channels
        expected = b""
        for unit in range(len(flat)):
            if unit not in bad:
                last[unit % channels] = there[unit].tobytes()
            expected += last[unit % channels]
        assert repeat[0].tobytes() == expected, (seed, number)

        # Raise: the first damage. No policy: a cut in a frame.
        assert isinstance(raised, AtracError) is bool(damages)
        if isinstance(raised, AtracError):
            assert str(raised) == str(damages[0])
        else:
            assert raised[0].tobytes() == data[2048:]
        assert isinstance(raw, AtracError) is any(damage.cut for damage in damages)
        if not isinstance(raw, AtracError):
            assert raw[0].tobytes() == data[2048:]
            assert raw[1] == []

        for name, count in [
            ("good files", not damages),
            ("damaged units", len(damages)),
            ("cuts", any(damage.cut for damage in damages)),
            ("units kept", len(same)),
            ("other channels", channels != golden.shape[1]),
        ]:
            seen[name] += int(count)
    unpack_units(np.concatenate(handed_out))
    # None of what is claimed above is claimed about nothing.
    assert min(seen.values()) >= FILES_PER_SEED // 50, seen


# Files that fail ----------------------------------------------------------------------------------


@pytest.fixture(params=["whole", "short", "damaged", "both"])
def data(request: pytest.FixtureRequest, aea_bytes: bytes) -> bytes:
    """A file, with or without damage of each kind."""
    changed = bytearray(aea_bytes)
    if request.param in ("damaged", "both"):
        changed[2048 + 424 * 5] = 0xFF
    return bytes(changed[: -100 if request.param in ("short", "both") else None])


def fail_at_each_operation(make: Callable[[int], Any], use: Callable[[Any], Any], most: int = 200) -> tuple[int, Any]:
    """Use a file that fails after 0, 1, 2, … operations; return the first number that is enough, and the result."""
    for operations in range(most):
        try:
            return operations, use(make(operations))
        except OSError as error:
            assert error.errno == errno.EIO  # noqa: PT017
    pytest.fail("the file was never read through")


@pytest.mark.parametrize("most", [1 << 30, 700])
@every_policy
def test_a_file_that_fails_gives_a_reader_nothing_but_os_errors(
    policy: DamagePolicy | None, most: int, data: bytes, fails_after: FailsAfter
) -> None:
    def use(file: BinaryIO) -> AtracError | list[Units]:
        try:
            return list(AeaReader(file, policy).blocks(2))
        except AtracError as error:
            return error

    expected = use(io.BytesIO(data))
    operations, result = fail_at_each_operation(lambda n: fails_after(data, n, most), use)
    assert operations > 3
    if isinstance(expected, AtracError):
        assert str(result) == str(expected)
    else:
        assert all((one == two).all() for one, two in zip(result, expected, strict=True))


@pytest.mark.parametrize("most", [1 << 30, 700])
def test_a_file_that_fails_gives_nothing_but_os_errors(most: int, data: bytes, fails_after: FailsAfter) -> None:
    operations, info = fail_at_each_operation(
        lambda n: fails_after(data, n, most), lambda file: read_info(file, block=2)
    )
    assert operations > 5
    assert info == read_info(io.BytesIO(data))
    foreign = b"RIFF" * 600
    with pytest.raises(AtracError):
        fail_at_each_operation(lambda n: fails_after(foreign, n, most), read_info)


@pytest.mark.parametrize("most", [1 << 30, 700])
@pytest.mark.parametrize("existing", [None, b"old"])
@pytest.mark.parametrize("policy", [SilenceDamage(), RepeatDamage()], ids=["silence", "repeat"])
def test_a_source_that_fails_leaves_nothing_of_a_repair(
    policy: DamagePolicy,
    existing: bytes | None,
    most: int,
    data: bytes,
    tmp_path: Path,
    fails_after: FailsAfter,
) -> None:
    target = tmp_path / "out.aea"
    if existing:
        target.write_bytes(existing)
    before = sorted(tmp_path.iterdir())

    def use(file: BinaryIO) -> None:
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [existing] * len(before)
        repair_file(file, target, policy, block=2)

    operations, _ = fail_at_each_operation(lambda n: fails_after(data, n, most), use)
    assert operations > 5
    expected = io.BytesIO()
    repair_file(io.BytesIO(data), expected, policy)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [expected.getvalue()]


def test_a_target_object_that_fails_is_an_os_error_and_leaves_nothing_temporary(data: bytes, temporary: Path) -> None:
    class Broken(io.BytesIO):
        def __init__(self, operations: int) -> None:
            super().__init__()
            self.left = operations

        def _count(self) -> None:
            assert list(temporary.iterdir()) != []
            if not self.left:
                raise OSError(errno.EIO, "the disk is broken")
            self.left -= 1

        def write(self, data: Any) -> int:
            self._count()
            return super().write(data)

        def flush(self) -> None:
            self._count()

    def use(file: Broken) -> bytes:
        assert list(temporary.iterdir()) == []
        repair_file(io.BytesIO(data), file, SilenceDamage())
        return file.getvalue()

    operations, written = fail_at_each_operation(Broken, use)
    assert operations >= 2
    assert len(written) == 2048 + 9 * 424
    assert list(temporary.iterdir()) == []


class BrokenDisk:
    """Lets so many operations on the file that is written pass, and fails all after them but removing it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        disk = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                disk.count()
                return super().write(data)

        real_open = Path.open

        def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            self.count()
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


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_fails_leaves_the_files_of_a_repair_as_they_were(
    in_place: bool, existing: bool, data: bytes, tmp_path: Path, broken_disk: BrokenDisk
) -> None:
    source = tmp_path / "in.aea"
    target = source if in_place else tmp_path / "out.aea"

    def put(path: Path, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content)

    def content() -> dict[str, bytes]:
        found = {}
        for name in os.listdir(tmp_path):
            with open(tmp_path / name, "rb") as file:
                found[name] = file.read()
        return found

    put(source, data)
    if existing and not in_place:
        put(target, b"old")
    before = content()

    def use(operations: int) -> None:
        assert content() == before
        broken_disk.left = operations
        repair_file(source, target, SilenceDamage(), block=2)

    operations, _ = fail_at_each_operation(int, use)
    assert operations > 10
    expected = io.BytesIO()
    broken_disk.left = 1000
    repair_file(io.BytesIO(data), expected, SilenceDamage())
    assert content() == {**before, target.name: expected.getvalue()}
