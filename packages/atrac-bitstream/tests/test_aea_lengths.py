"""Files of sound units that are not what their header says: without one, with a wrong count, padded, cut."""

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
    Damage,
    DamagePolicy,
    RaiseDamage,
    RepeatDamage,
    SilenceDamage,
    TruncatedError,
    UnitArrays,
    read_info,
)

Units = NDArray[np.uint8]
Golden = tuple[Units, UnitArrays]
Mend = Callable[[bytes, int, bool], tuple[bytes, list[Damage]]]

BAD_MODE = b"\x40" + bytes(211)
MODE_REASON = "bsm[0] = 1, allowed 0 (long) and 2 (short)"
SIGNALS = {1: "voice_mono", 2: "clicks_stereo"}
EVERY_POLICY: list[DamagePolicy | None] = [None, RaiseDamage(), SilenceDamage(), RepeatDamage()]


def cut_reason(there: int) -> str:
    return f"the file ends after {there} of 212 bytes"


def aea(units: Units, missing: int = 0) -> io.BytesIO:
    """Return a file of units [F, C, 212] whose last bytes are missing."""
    data = AeaHeader.make(units.shape[1], units[..., 0].size).data + units.tobytes()
    return io.BytesIO(data[: len(data) - missing])


def read(file: Any, policy: DamagePolicy | None, block: int, header: AeaHeader | None = None) -> tuple[Units, Any]:
    """Read all frames in blocks; return them and the damages."""
    with AeaReader(file, policy, header=header) as reader:
        nothing = np.zeros((0, reader.channels, 212), np.uint8)
        units = np.concatenate([nothing, *reader.blocks(block)])
        assert reader.position == len(units)
        return units, reader.damages


# Sound units without a header ---------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["path", "text path", "BytesIO", "trickle 1", "trickle 1000"])
def test_sound_units_without_a_header_are_read_from_the_first_byte(
    kind: str,
    channels: int,
    policy: DamagePolicy | None,
    tmp_path: Path,
    stereo: Units,
    trickle: Callable[[bytes, int], BinaryIO],
) -> None:
    def source() -> Any:
        if kind.startswith("trickle"):
            return trickle(stereo.tobytes(), int(kind.split()[1]))
        return {"path": path, "text path": str(path), "BytesIO": io.BytesIO(stereo.tobytes())}[kind]

    path = tmp_path / "units.bin"
    path.write_bytes(stereo.tobytes())
    header = AeaHeader.make(channels, title="from elsewhere")
    units, damages = read(source(), policy, 4, header)
    assert units.shape == (18 // channels, channels, 212)
    assert units.tobytes() == stereo.tobytes()
    assert damages == []
    with AeaReader(source(), policy, header=header) as reader:
        assert reader.header is header
    info = read_info(source(), header=header)
    assert (info.title, info.channels, info.frames, info.damages) == ("from elsewhere", channels, 18 // channels, ())


def test_damage_in_sound_units_without_a_header_is_placed_as_with_one(stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[4, 1] = np.frombuffer(BAD_MODE, np.uint8)
    with_header = aea(damaged, 7)
    without = io.BytesIO(with_header.getvalue()[2048:])
    header = AeaHeader(with_header.getvalue())
    expected = read(with_header, RepeatDamage(), 2)
    units, damages = read(without, RepeatDamage(), 2, header)
    assert (units == expected[0]).all()
    assert damages == expected[1] == [Damage(4, 1, MODE_REASON), Damage(8, 1, cut_reason(205), cut=True)]
    without.seek(0)
    assert read_info(without, header=header) == read_info(io.BytesIO(with_header.getvalue()))


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: type(policy).__name__)
def test_no_bytes_at_all_are_no_frames_without_a_header(policy: DamagePolicy | None) -> None:
    units, damages = read(io.BytesIO(), policy, 3, AeaHeader.make(2))
    assert units.shape == (0, 2, 212)
    assert damages == []


# Lengths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("count", [0, 1, 17, 19, 10_000, 2**32 - 1])
def test_no_policy_relies_on_the_count_in_the_header(count: int, policy: DamagePolicy | None, stereo: Units) -> None:
    file = io.BytesIO(AeaHeader.make(2, count).data + stereo.tobytes())
    units, damages = read(file, policy, 4)
    assert (units == stereo).all()
    assert damages == []


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("extra", [1, 211, 212, 213, 423, 424, 3 * 424, 3 * 424 + 1])
@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_zeros_after_the_last_frame_are_silent_units_and_what_is_left_of_them_a_cut(
    extra: int, channels: int, block: int, all_golden: dict[str, Golden]
) -> None:
    golden = all_golden[SIGNALS[channels]][0]
    data = aea(golden).getvalue() + bytes(extra)
    frames = len(golden) + -(-extra // (212 * channels))
    cut = [
        Damage(frames - 1, channel, cut_reason(max(extra % (212 * channels) - 212 * channel, 0)), cut=True)
        for channel in range(channels)
        if 0 < extra % (212 * channels) < 212 * (channel + 1)
    ]
    if cut:
        for strict in (None, RaiseDamage()):
            with pytest.raises(TruncatedError):
                read(io.BytesIO(data), strict, block)
    else:
        for strict in (None, RaiseDamage()):
            assert read(io.BytesIO(data), strict, block)[0].tobytes() == data[2048:]
    for policy in (SilenceDamage(), RepeatDamage()):
        units, damages = read(io.BytesIO(data), policy, block)
        assert damages == cut
        assert units.shape == (frames, channels, 212)
        assert (units[: len(golden)] == golden).all()
        good = np.ones((frames, channels), bool)
        for damage in cut:
            good[damage.frame, damage.channel] = False
        assert not units[len(golden) :][good[len(golden) :]].any()
    assert read_info(io.BytesIO(data), 2).damages == tuple(cut)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_cut_anywhere_keeps_its_whole_units(
    channels: int, all_golden: dict[str, Golden], mend_one_by_one: Mend
) -> None:
    golden = all_golden[SIGNALS[channels]][0][:3]
    data = aea(golden).getvalue()
    for length in [*range(2048, len(data), 7), *range(2048, len(data) + 1, 212), len(data) - 1]:
        cut, whole = data[:length], (length - 2048) // 212
        broken = (length - 2048) % (212 * channels) > 0
        for repeat, policy in enumerate((SilenceDamage(), RepeatDamage())):
            units, damages = read(io.BytesIO(cut), policy, 2)
            assert (units.tobytes(), damages) == mend_one_by_one(cut[2048:], channels, bool(repeat))
            assert units.size % 212 == 0
            assert units.tobytes()[: 212 * whole] == data[2048 : 2048 + 212 * whole]
            assert bool(damages) is broken
            assert all(damage.cut for damage in damages)
        if broken:
            with pytest.raises(TruncatedError, match=f"^frame {whole // channels}, channel {whole % channels}: "):
                read(io.BytesIO(cut), RaiseDamage(), 2)
        else:
            assert read(io.BytesIO(cut), RaiseDamage(), 2)[0].tobytes() == cut[2048:]


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("length", [0, 1, 264, 2047])
def test_no_policy_mends_a_header(length: int, policy: DamagePolicy | None, stereo: Units) -> None:
    with pytest.raises(TruncatedError, match=f"the file ends after {length} bytes, a header has 2048"):
        AeaReader(io.BytesIO(aea(stereo).getvalue()[:length]), policy)
