"""Damaged files and files that fail: frames or an error of this package come out, and all that is good is kept."""

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
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
    SoundUnitError,
    TruncatedError,
    UnitArrays,
    read_info,
    repair_file,
    unpack_units,
)

Units = NDArray[np.uint8]
Golden = tuple[Units, UnitArrays]
FailsAfter = Callable[..., BinaryIO]
Mend = Callable[[bytes, int, bool], tuple[bytes, list[Damage]]]
EVERY_POLICY = {"none": None, "raise": RaiseDamage(), "silence": SilenceDamage(), "repeat": RepeatDamage()}


class Patient(io.BytesIO):
    """Loses its patience with a reader that never ends."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        assert self.reads < 1000, "the reader hangs"
        return super().read(size)


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


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
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
        if damages:
            kind = TruncatedError if damages[0].cut else SoundUnitError
            assert (type(raised), str(raised)) == (kind, str(damages[0])), (seed, number)
        else:
            assert raised == (data[2048:], [])
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
