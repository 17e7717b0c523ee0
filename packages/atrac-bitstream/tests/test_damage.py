"""Damaged sound units: found wherever they are, replaced as the policy says, whatever the blocks they are read in."""

import io

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
    SoundUnit,
    SoundUnitError,
    UnitArrays,
    describe_damage,
    find_damage,
)

Units = NDArray[np.uint8]
Golden = tuple[Units, UnitArrays]

BAD_MODE = np.frombuffer(b"\x40" + bytes(211), np.uint8)
MODE_REASON = "bsm[0] = 1, allowed 0 (long) and 2 (short)"
TOO_MANY_BITS = np.frombuffer(b"\xac" + b"\xff" * 211, np.uint8)
BITS_REASON = "values take 8192 bits, allowed 1144 with n_bfu = 52"
SILENT = np.frombuffer(b"\xac" + bytes(211), np.uint8)
"""Low, mid and high long, 20 BFUs, no values."""
BLOCKS = [1, 2, 3, 1000]


def aea(units: Units, missing: int = 0) -> io.BytesIO:
    """Return a file of units [F, C, 212] whose last bytes are missing."""
    data = AeaHeader.make(units.shape[1], units[..., 0].size).data + units.tobytes()
    return io.BytesIO(data[: len(data) - missing])


def read(file: io.BytesIO, policy: DamagePolicy | None, block: int) -> tuple[Units, list[Damage]]:
    """Read all frames in blocks; return them and the damages."""
    with AeaReader(file, policy) as reader:
        units = np.concatenate([np.zeros((0, reader.channels, 212), np.uint8), *reader.blocks(block)])
        assert reader.position == len(units)
        return units, reader.damages


@pytest.mark.parametrize("block", BLOCKS)
def test_silence_and_repeat_by_hand(block: int, stereo: Units) -> None:
    damaged, silent, repeated = stereo.copy(), stereo.copy(), stereo.copy()
    damaged[0, 1] = damaged[5:7, 0] = BAD_MODE
    damaged[5, 1] = TOO_MANY_BITS
    assert len({unit.tobytes() for unit in stereo[4:].reshape(-1, 212)}) == 10  # a wrong one would show
    silent[0, 1] = silent[5:7, 0] = silent[5, 1] = silent[8] = repeated[0, 1] = SILENT
    repeated[5:7, 0], repeated[5, 1], repeated[8] = stereo[4, 0], stereo[4, 1], stereo[7]
    for policy, expected in ((SilenceDamage(), silent), (RepeatDamage(), repeated)):
        units, damages = read(aea(damaged, 212 + 50), policy, block)
        assert (units == expected).all()
        assert damages == [
            Damage(0, 1, MODE_REASON),
            Damage(5, 0, MODE_REASON),
            Damage(5, 1, BITS_REASON),
            Damage(6, 0, MODE_REASON),
            Damage(8, 0, "the file ends after 162 of 212 bytes", cut=True),
            Damage(8, 1, "the file ends after 0 of 212 bytes", cut=True),
        ]
    assert SoundUnit.unpack(SILENT) == SoundUnit((0, 0, 0), 20, (0,) * 52, (0,) * 52, (0,) * 512)


def test_raise_hands_out_the_blocks_before_the_damage_and_those_after_it(stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[4, 1] = BAD_MODE
    reader, given_out = AeaReader(aea(damaged), RaiseDamage()), []
    with pytest.raises(SoundUnitError, match="frame 4, channel 1"):
        given_out.extend(reader.blocks(2))
    given_out.extend(reader.blocks(2))
    assert (np.concatenate(given_out) == np.concatenate([stereo[:4], stereo[6:]])).all()
    assert reader.damages == []


def test_callers_changes_and_reading_nothing_do_not_reach_the_next_block(stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[[1, 3], 0] = BAD_MODE
    reader = AeaReader(aea(damaged), RepeatDamage())
    reader.read(3)[:] = 0x55
    assert reader.read(0).shape == (0, 2, 212)
    assert (reader.read(1)[0, 0] == stereo[2, 0]).all()


# Policies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS)
def test_own_policy_is_told_the_damage_and_what_came_before(block: int, golden: Golden, stereo: Units) -> None:
    asked: list[tuple[Damage, bytes | None]] = []

    class Numbers(DamagePolicy):
        def replace(self, damage: Damage, before: Units | None) -> Units:
            asked.append((damage, None if before is None else before.tobytes()))
            if before is not None:
                before[:] = 0xFF  # its own copy
            return numbered(len(asked))

    def numbered(n: int) -> Units:
        return np.frombuffer(SILENT.tobytes()[:-1] + bytes([n]), np.uint8)

    assert (read(aea(golden[0]), Numbers(), block)[0] == golden[0]).all()
    assert asked == []
    damaged, expected = stereo.copy(), stereo.copy()
    for number, place in enumerate(((0, 1), (1, 1), (4, 0), (8, 1)), 1):
        damaged[place], expected[place] = BAD_MODE, numbered(number)
    units, damages = read(aea(damaged, 30), Numbers(), block)
    assert asked == [
        (Damage(0, 1, MODE_REASON), None),
        (Damage(1, 1, MODE_REASON), numbered(1).tobytes()),
        (Damage(4, 0, MODE_REASON), stereo[3, 0].tobytes()),
        (Damage(8, 1, "the file ends after 182 of 212 bytes", cut=True), stereo[7, 1].tobytes()),
    ]
    assert damages == [damage for damage, _ in asked]
    assert (units == expected).all()


@pytest.mark.parametrize("answer", [np.zeros((), np.uint8), np.zeros(211, np.uint8), np.zeros(212), BAD_MODE], ids=str)
def test_what_a_policy_gives_must_be_a_readable_unit(answer: Units, stereo: Units) -> None:
    class Own(DamagePolicy):
        def replace(self, damage: Damage, before: Units | None) -> Units:
            return answer

    damaged = stereo.copy()
    damaged[3, 0] = BAD_MODE
    with pytest.raises(ValueError, match="Own returned no readable sound unit for frame 3, channel 0"):
        AeaReader(aea(damaged), Own()).read()


# Finding and describing ---------------------------------------------------------------------------


def test_find_damage_finds_it_anywhere_among_thousands(golden_units: Units) -> None:
    units = np.resize(golden_units, (1400, 2, 212))
    places = [(0, 0), (255, 1), (256, 0), (511, 1), (512, 0), (767, 1), (1399, 0), (1399, 1)]
    for place in places:
        units[place] = TOO_MANY_BITS
    assert find_damage(np.asfortranarray(units)) == dict.fromkeys(places, BITS_REASON)
    assert find_damage(units[0, 0]) == {(): BITS_REASON}
    assert find_damage(units[:0]) == {}
    assert find_damage(units[:, 1]) == {(frame,): BITS_REASON for frame, channel in places if channel == 1}


def test_description_counts_all_and_names_the_first() -> None:
    damages = [Damage(frame, 0, "bad") for frame in range(12)]
    assert describe_damage([]) == "0"
    assert describe_damage(damages[:2]) == "2 (frame 0, channel 0: bad; frame 1, channel 0: bad)"
    assert describe_damage(damages[:10]).endswith("; frame 9, channel 0: bad)")
    assert describe_damage(damages[:11]).endswith("; frame 9, channel 0: bad; and 1 more)")
    assert describe_damage(damages, most=1) == "12 (frame 0, channel 0: bad; and 11 more)"
