"""Repaired files: every unit readable, whole frames, a true count, and not a bit else changed."""

import io
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrac_bitstream import (
    AeaHeader,
    Damage,
    RaiseDamage,
    RepairReport,
    RepeatDamage,
    SilenceDamage,
    SoundUnit,
    SoundUnitError,
    TruncatedError,
    find_damage,
    read_info,
    repair_file,
)

COUNT = slice(260, 264)


def with_damage(data: bytes, *units: int) -> bytes:
    """Put an invalid block size mode into some sound units of a file, counted from 0 whatever their channel."""
    damaged = bytearray(data)
    for unit in units:
        damaged[2048 + 212 * unit] = 0x40
    return bytes(damaged)


def repaired(data: bytes, damage: Any = None, **options: Any) -> tuple[bytes, RepairReport]:
    target = io.BytesIO()
    report = repair_file(io.BytesIO(data), target, damage or SilenceDamage(), **options)
    return target.getvalue(), report


def mend(payload: bytes, channels: int, repeat: bool) -> tuple[bytes, list[Damage]]:
    """Mend sound units one at a time, by silence or by repeating the last good one of the channel."""
    units = [payload[start : start + 212] for start in range(0, len(payload), 212)]
    units += [b""] * (-len(units) % channels)
    whole = np.frombuffer(payload, np.uint8)[: len(payload) // 212 * 212].reshape(-1, 212)
    reasons = {unit: reason for (unit,), reason in find_damage(whole).items()}
    last = [b"\xac" + bytes(211)] * channels
    mended, damages = b"", []
    for unit, data in enumerate(units):
        cut, channel = len(data) < 212, unit % channels
        if cut or unit in reasons:
            reason = f"the file ends after {len(data)} of 212 bytes" if cut else reasons[unit]
            damages.append(Damage(unit // channels, channel, reason, cut=cut))
            data = last[channel]
        elif repeat:
            last[channel] = data
        mended += data
    return mended, damages


@settings(deadline=None, max_examples=30)
@given(data=st.data(), channels=st.sampled_from((1, 2)), seed=st.integers(0, 2**32), wrong=st.integers(0, 2**32 - 1))
def test_of_a_good_file_nothing_but_a_wrong_count_changes(
    data: st.DataObject, channels: int, seed: int, wrong: int, legal_units: st.SearchStrategy[SoundUnit]
) -> None:
    # Any bytes in the header, reserved bits and tails in the units: what nobody knows the meaning of is kept.
    units = data.draw(st.lists(st.tuples(*[legal_units] * channels), max_size=3))
    header = bytearray(np.random.default_rng(seed).bytes(2048))
    count = len(units) * channels
    header[:4], header[264], header[COUNT] = b"\x00\x08\x00\x00", channels, count.to_bytes(4, "little")
    file = bytes(header) + b"".join(unit.pack() for frame in units for unit in frame)
    for policy in (SilenceDamage(), RepeatDamage(), RaiseDamage()):
        assert repaired(file, policy, block=2)[0] == file
    miscounted = file[: COUNT.start] + wrong.to_bytes(4, "little") + file[COUNT.stop :]
    assert repaired(miscounted) == (file, RepairReport(len(units), wrong, count, ()))


@pytest.mark.parametrize("policy", [SilenceDamage(), RepeatDamage()], ids=["silence", "repeat"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("with_header", [True, False])
def test_repaired_file_is_without_damage_and_repairing_it_again_changes_nothing(
    with_header: bool, channels: int, policy: Any, aea_bytes: bytes
) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(15):
        header = AeaHeader.make(channels, int(rng.integers(100)), "from elsewhere", samples=99)
        data = with_damage(header.data + aea_bytes[2048:], *rng.integers(0, 18, rng.integers(6)).tolist())
        data = data[: len(data) - int(rng.integers(1000))]
        mended, damages = mend(data[2048:], channels, isinstance(policy, RepeatDamage))
        count = len(mended) // 212
        source, options = (data, {}) if with_header else (data[2048:], {"header": header})
        copy, report = repaired(source, policy, block=int(rng.integers(1, 10)), **options)
        assert copy == header.with_unit_count(count).data + mended
        assert report == RepairReport(count // channels, header.unit_count, count, tuple(damages))
        assert read_info(io.BytesIO(copy)).damages == ()
        assert repaired(copy, policy)[0] == copy


@pytest.mark.parametrize(
    ("change", "error", "message", "options"),
    [
        (lambda data: with_damage(data, 7), SoundUnitError, r"^frame 3, channel 1: bsm\[0\] = 1", {}),
        (lambda data: data[:-1], TruncatedError, "^frame 8, channel 1: the file ends", {}),
        (bytes, ValueError, "block = 0, allowed from 1 on", {"block": 0}),
    ],
)
def test_existing_target_is_kept_by_what_fails_and_else_replaced(
    change: Any, error: type[Exception], message: str, options: dict[str, int], place: Path, aea_bytes: bytes
) -> None:
    path = place / "out.aea"
    path.write_bytes(b"old")
    with pytest.raises(error, match=message):
        repair_file(io.BytesIO(change(aea_bytes)), path, RaiseDamage(), **options)
    assert path.read_bytes() == b"old"
    repair_file(io.BytesIO(aea_bytes), path, RaiseDamage())
    assert path.read_bytes() == aea_bytes


def test_a_file_is_repaired_in_place_or_stays(place: Path, aea_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path, damaged = place / "out.aea", with_damage(aea_bytes, 5)[:-3]
    path.write_bytes(damaged)
    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, Mock(side_effect=OSError("the disk is broken")))
            with pytest.raises(OSError, match="the disk is broken"):
                repair_file(path, path, SilenceDamage())
        assert [file.read_bytes() for file in place.iterdir()] == [damaged]
    expected = repaired(damaged)
    assert repair_file(path, str(path), SilenceDamage(), block=2) == expected[1]
    assert path.read_bytes() == expected[0]
    assert list(place.iterdir()) == [path]


def test_report_says_what_was_done() -> None:
    assert str(RepairReport(9, 18, 18, ())) == "9 frames, sound units replaced: 0"
    damages = (Damage(3, 0, "bad"), Damage(8, 0, "short", cut=True))
    told = "9 frames, count 0 -> 9, sound units replaced: 2 (frame 3, channel 0: bad; frame 8, channel 0: short)"
    assert str(RepairReport(9, 0, 9, damages)) == told
