"""Damaged sound units: found wherever they are, replaced as the policy says, whatever the blocks they are read in."""

import io
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import (
    POLICIES,
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
    TruncatedError,
    UnitArrays,
    describe_damage,
    find_damage,
    unpack_units,
)

Units = NDArray[np.uint8]
Golden = tuple[Units, UnitArrays]
Mend = Callable[[bytes, int, bool], tuple[bytes, list[Damage]]]

BAD_MODE = b"\x40" + bytes(211)
MODE_REASON = "bsm[0] = 1, allowed 0 (long) and 2 (short)"
TOO_MANY_BITS = b"\xac" + b"\xff" * 211
BITS_REASON = "values take 8192 bits, allowed 1144 with n_bfu = 52"
SILENT = b"\xac" + bytes(211)
"""Low, mid and high long, 20 BFUs, no values."""
BLOCKS = [1, 2, 3, 1000]
SIGNALS = {1: "voice_mono", 2: "clicks_stereo"}


def as_unit(data: bytes) -> Units:
    return np.frombuffer(data, np.uint8)


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


# Every kind of damage -----------------------------------------------------------------------------

# The places [frame, channel] that are damaged, and how many bytes are missing at the end.
STEREO: dict[str, tuple[dict[tuple[int, int], bytes], int]] = {
    "none": ({}, 0),
    "first left": ({(0, 0): BAD_MODE}, 0),
    "first right": ({(0, 1): BAD_MODE}, 0),
    "first frames": ({(0, 0): BAD_MODE, (0, 1): BAD_MODE, (1, 0): TOO_MANY_BITS, (2, 0): BAD_MODE}, 0),
    "middle": ({(4, 1): TOO_MANY_BITS}, 0),
    "run": ({(frame, 0): BAD_MODE for frame in (2, 3, 4, 5)}, 0),
    "runs that cross": ({**{(f, 0): BAD_MODE for f in (1, 2, 3)}, **{(f, 1): TOO_MANY_BITS for f in (3, 4, 5)}}, 0),
    "every other": ({(frame, 1): BAD_MODE for frame in (1, 3, 5, 7)}, 0),
    "last": ({(8, 0): TOO_MANY_BITS, (8, 1): BAD_MODE}, 0),
    "all": ({(frame, channel): BAD_MODE for frame in range(9) for channel in (0, 1)}, 0),
    "cut right by a byte": ({}, 1),
    "cut right to a byte": ({}, 211),
    "cut right off": ({}, 212),
    "cut left by a byte": ({}, 213),
    "cut left to a byte": ({}, 423),
    "cut a frame off": ({}, 424),
    "cut in an earlier frame": ({}, 424 * 4 + 50),
    "cut after damage": ({(7, 0): BAD_MODE, (7, 1): BAD_MODE, (8, 0): TOO_MANY_BITS}, 100),
    "cut within damage": ({(8, 1): TOO_MANY_BITS}, 100),
    "cut before damage": ({(8, 0): BAD_MODE, (8, 1): BAD_MODE}, 300),
    "cut to damage alone": ({(frame, 0): BAD_MODE for frame in range(9)}, 424 * 8 + 212),
    "cut to a byte": ({}, 424 * 9 - 1),
    "nothing left": ({}, 424 * 9),
}
MONO: dict[str, tuple[dict[tuple[int, int], bytes], int]] = {
    "none": ({}, 0),
    "first": ({(0, 0): BAD_MODE}, 0),
    "first two": ({(0, 0): BAD_MODE, (1, 0): TOO_MANY_BITS}, 0),
    "run": ({(frame, 0): TOO_MANY_BITS for frame in (2, 3, 4)}, 0),
    "last": ({(6, 0): BAD_MODE}, 0),
    "cut by a byte": ({}, 1),
    "cut to a byte": ({}, 211),
    "cut a frame off": ({}, 212),
    "cut after damage": ({(5, 0): BAD_MODE}, 60),
    "cut within damage": ({(6, 0): BAD_MODE}, 60),
}
CASES = [(2, kind) for kind in STEREO] + [(1, kind) for kind in MONO]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest, all_golden: dict[str, Golden]) -> tuple[Units, int]:
    """Give units of which some are damaged [F, C, 212], and how many bytes are missing at the end."""
    channels, kind = request.param
    places, missing = (STEREO if channels == 2 else MONO)[kind]
    units = all_golden[SIGNALS[channels]][0].copy()
    for place, damage in places.items():
        units[place] = as_unit(damage)
    return units, missing


@pytest.mark.parametrize("name", ["silence", "repeat"])
def test_any_damage_is_mended_as_one_unit_at_a_time(name: str, case: tuple[Units, int], mend_one_by_one: Mend) -> None:
    data = aea(*case).getvalue()[2048:]
    mended, expected = mend_one_by_one(data, case[0].shape[1], name == "repeat")
    assert AeaReader(aea(*case), POLICIES[name]()).read().tobytes() == mended
    for block in BLOCKS:
        units, damages = read(aea(*case), POLICIES[name](), block)
        assert units.tobytes() == mended, block
        assert damages == expected, block
        assert {type(number) for damage in damages for number in (damage.frame, damage.channel)} <= {int}


@pytest.mark.parametrize("policy", [SilenceDamage(), RepeatDamage()], ids=["silence", "repeat"])
def test_whatever_is_handed_out_can_be_read_and_what_was_good_is_the_same(
    policy: DamagePolicy, case: tuple[Units, int]
) -> None:
    for block in BLOCKS:
        units, damages = read(aea(*case), policy, block)
        assert find_damage(units) == {}
        assert unpack_units(units).n_bfu.shape == units.shape[:2]
        good = np.ones(units.shape[:2], bool)
        for damage in damages:
            good[damage.frame, damage.channel] = False
        assert (units[good] == case[0][: len(units)][good]).all(), block


def test_raise_names_the_first_damage_and_is_silent_without_one(case: tuple[Units, int], mend_one_by_one: Mend) -> None:
    _, expected = mend_one_by_one(aea(*case).getvalue()[2048:], case[0].shape[1], False)
    for block in BLOCKS:
        if not expected:
            units, damages = read(aea(*case), RaiseDamage(), block)
            assert (units == case[0][: len(units)]).all()
            assert damages == []
            continue
        with pytest.raises(AtracError) as caught:
            read(aea(*case), RaiseDamage(), block)
        assert type(caught.value) is (TruncatedError if expected[0].cut else SoundUnitError)
        assert str(caught.value) == str(expected[0])


def test_without_a_policy_damaged_units_are_handed_out_as_they_are(case: tuple[Units, int]) -> None:
    damaged, missing = case
    for block in BLOCKS:
        if missing % damaged[0].size:
            with pytest.raises(TruncatedError, match="the file ends in frame"):
                read(aea(*case), None, block)
            continue
        units, damages = read(aea(*case), None, block)
        assert units.tobytes() == aea(*case).getvalue()[2048:]
        assert damages == []


# Damage by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS)
def test_damage_is_listed_with_frame_channel_and_reason_in_the_order_of_the_file(block: int, stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[5, 1] = damaged[2, 1] = as_unit(BAD_MODE)
    damaged[5, 0] = as_unit(TOO_MANY_BITS)
    _, damages = read(aea(damaged, 212 + 50), SilenceDamage(), block)
    assert damages == [
        Damage(2, 1, MODE_REASON),
        Damage(5, 0, BITS_REASON),
        Damage(5, 1, MODE_REASON),
        Damage(8, 0, cut_reason(162), cut=True),
        Damage(8, 1, cut_reason(0), cut=True),
    ]


def test_damages_are_listed_as_they_are_met(stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[[1, 4], 0] = as_unit(BAD_MODE)
    reader = AeaReader(aea(damaged), SilenceDamage())
    assert [len(reader.damages) for _ in reader.blocks(1)] == [0, 1, 1, 1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("block", BLOCKS)
def test_silence_takes_the_place_of_a_damaged_unit_and_of_no_other(block: int, stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[3, 1] = as_unit(BAD_MODE)
    expected = stereo.copy()
    expected[3, 1] = as_unit(SILENT)
    units, _ = read(aea(damaged), SilenceDamage(), block)
    assert (units == expected).all()
    assert SoundUnit.unpack(units[3, 1].tobytes()) == SoundUnit((0, 0, 0), 20, (0,) * 52, (0,) * 52, (0,) * 512)


@pytest.mark.parametrize("block", BLOCKS)
def test_repeat_gives_the_last_good_unit_of_the_same_channel(block: int, stereo: Units) -> None:
    damaged, expected = stereo.copy(), stereo.copy()
    damaged[3, 1] = as_unit(BAD_MODE)
    expected[3, 1] = stereo[2, 1]
    damaged[5:8, 0] = as_unit(TOO_MANY_BITS)
    expected[5:8, 0] = stereo[4, 0]
    damaged[7, 1] = as_unit(BAD_MODE)
    expected[7, 1] = stereo[6, 1]
    assert len({unit.tobytes() for unit in stereo[2:8].reshape(-1, 212)}) == 12  # a wrong one would show
    units, _ = read(aea(damaged, 100), RepeatDamage(), block)
    expected[8, 1] = stereo[6, 1]
    assert (units == expected).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_repeat_gives_silence_where_the_channel_has_had_no_good_unit(block: int, stereo: Units) -> None:
    damaged, expected = stereo.copy(), stereo.copy()
    damaged[:4, 1] = as_unit(BAD_MODE)
    expected[:4, 1] = as_unit(SILENT)
    damaged[6, 1] = as_unit(BAD_MODE)
    expected[6, 1] = stereo[5, 1]
    units, _ = read(aea(damaged), RepeatDamage(), block)
    assert (units == expected).all()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("channels", "missing", "first"), [(2, 1, 1), (2, 212, 1), (2, 213, 0), (1, 1, 0), (1, 211, 0)]
)
def test_raise_gives_a_truncated_error_for_a_cut(
    channels: int, missing: int, first: int, block: int, all_golden: dict[str, Golden]
) -> None:
    units = all_golden[SIGNALS[channels]][0]
    there = 212 * (channels - first) - missing
    with pytest.raises(TruncatedError) as caught:
        read(aea(units, missing), RaiseDamage(), block)
    assert str(caught.value) == f"frame {len(units) - 1}, channel {first}: the file ends after {there} of 212 bytes"


def test_raise_hands_out_the_frames_before_the_block_of_the_damage(stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[7, 1] = as_unit(BAD_MODE)
    reader = AeaReader(aea(damaged), RaiseDamage())
    before: list[Units] = []
    with pytest.raises(SoundUnitError) as caught:
        before.extend(reader.blocks(2))
    assert str(caught.value) == f"frame 7, channel 1: {MODE_REASON}"
    assert (np.concatenate(before) == stereo[:6]).all()
    assert reader.damages == []


def test_what_a_caller_does_to_one_block_does_not_reach_the_next(stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[[1, 3], 0] = as_unit(BAD_MODE)
    reader = AeaReader(aea(damaged), RepeatDamage())
    block = reader.read(3)
    if block.flags.writeable:
        block[:] = 0x55
    assert (reader.read(1)[0, 0] == stereo[2, 0]).all()


def test_reading_nothing_between_blocks_forgets_nothing(stereo: Units) -> None:
    damaged = stereo.copy()
    damaged[3, 0] = as_unit(BAD_MODE)
    reader = AeaReader(aea(damaged), RepeatDamage())
    reader.read(3)
    assert reader.read(0).shape == (0, 2, 212)
    assert (reader.read(1)[0, 0] == stereo[2, 0]).all()


# Policies -----------------------------------------------------------------------------------------


class Recording(DamagePolicy):
    """Numbers its replacements, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Damage, bytes | None]] = []

    def replace(self, damage: Damage, before: Units | None) -> Units:
        self.asked.append((damage, None if before is None else before.tobytes()))
        return as_unit(self.unit(len(self.asked)))

    @staticmethod
    def unit(number: int) -> bytes:
        return SILENT[:-1] + bytes([number])


@pytest.mark.parametrize("block", BLOCKS)
def test_own_policy_is_told_the_damage_and_what_came_before(block: int, stereo: Units) -> None:
    damaged = stereo.copy()
    for place in ((0, 1), (1, 1), (4, 0), (4, 1)):
        damaged[place] = as_unit(BAD_MODE)
    policy = Recording()
    units, damages = read(aea(damaged, 30), policy, block)
    assert policy.asked == [
        (Damage(0, 1, MODE_REASON), None),
        (Damage(1, 1, MODE_REASON), Recording.unit(1)),
        (Damage(4, 0, MODE_REASON), stereo[3, 0].tobytes()),
        (Damage(4, 1, MODE_REASON), stereo[3, 1].tobytes()),
        (Damage(8, 1, cut_reason(182), cut=True), stereo[7, 1].tobytes()),
    ]
    assert damages == [damage for damage, _ in policy.asked]
    expected = stereo.copy()
    for number, place in enumerate([(0, 1), (1, 1), (4, 0), (4, 1), (8, 1)], 1):
        expected[place] = as_unit(Recording.unit(number))
    assert (units == expected).all()


def test_own_policy_may_give_up_after_some_damage(stereo: Units) -> None:
    class Patience(DamagePolicy):
        left = 2

        def replace(self, damage: Damage, before: Units | None) -> Units:
            if not self.left:
                raise SoundUnitError(f"too much damage, {damage}")
            self.left -= 1
            return as_unit(SILENT)

    damaged = stereo.copy()
    damaged[[1, 4, 6], 0] = as_unit(BAD_MODE)
    with pytest.raises(SoundUnitError, match=r"^too much damage, frame 6, channel 0: bsm\[0\] = 1"):
        read(aea(damaged), Patience(), 2)


def test_good_files_ask_no_policy(golden: Golden) -> None:
    policy = Recording()
    units, _ = read(aea(golden[0]), policy, 2)
    assert (units == golden[0]).all()
    assert policy.asked == []


def test_a_policy_has_to_say_what_to_put_in_the_place() -> None:
    with pytest.raises(TypeError, match="abstract"):
        DamagePolicy()  # type: ignore[abstract]


def test_policies_by_name() -> None:
    assert dict(POLICIES) == {"raise": RaiseDamage, "silence": SilenceDamage, "repeat": RepeatDamage}
    assert all(isinstance(policy(), DamagePolicy) for policy in POLICIES.values())


# find_damage --------------------------------------------------------------------------------------

LEADING = [(), (0,), (1,), (3,), (0, 2), (2, 0), (2, 2), (1, 3, 2)]


@settings(deadline=None, max_examples=150)
@given(data=st.data(), leading=st.sampled_from(LEADING))
def test_find_damage_agrees_with_one_at_a_time(
    data: st.DataObject, leading: tuple[int, ...], any_bytes: st.SearchStrategy[bytes]
) -> None:
    n = int(np.prod(leading))
    units = np.array([list(data.draw(any_bytes)) for _ in range(n)], np.uint8).reshape((*leading, 212))
    expected = {}
    for place in np.ndindex(leading):
        try:
            SoundUnit.unpack(units[place].tobytes())
        except SoundUnitError as error:
            expected[place] = str(error)
    found = find_damage(units)
    assert found == expected
    assert list(found) == sorted(found)
    assert {type(number) for place in found for number in place} <= {int}


def test_find_damage_finds_it_anywhere_among_thousands(golden_units: Units) -> None:
    units = np.resize(golden_units, (1400, 2, 212))
    places = [(0, 0), (255, 1), (256, 0), (511, 1), (512, 0), (767, 1), (1399, 0), (1399, 1)]
    for place in places:
        units[place] = as_unit(TOO_MANY_BITS)
    before = units.copy()
    assert find_damage(units) == dict.fromkeys(places, BITS_REASON)
    assert find_damage(np.asfortranarray(units)) == dict.fromkeys(places, BITS_REASON)
    assert find_damage(units[:, 1]) == {(frame,): BITS_REASON for frame, channel in places if channel == 1}
    assert (units == before).all()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (np.zeros((2, 211), np.uint8), "uint8 [2, 211]"),
        (np.zeros((), np.uint8), "uint8 []"),
        (np.zeros((2, 212), np.int8), "int8 [2, 212]"),
    ],
    ids=str,
)
def test_find_damage_refuses_other_shapes_and_dtypes(data: NDArray[Any], found: str) -> None:
    with pytest.raises(ValueError) as caught:
        find_damage(data)
    assert str(caught.value) == f"data is {found}, expected uint8 [*, 212]"


# Text ---------------------------------------------------------------------------------------------


def test_damage_is_a_value_and_reads_as_its_place_and_reason() -> None:
    damage = Damage(412, 1, "what is wrong")
    assert str(damage) == "frame 412, channel 1: what is wrong"
    assert damage == Damage(412, 1, "what is wrong", cut=False) != Damage(412, 1, "what is wrong", cut=True)
    with pytest.raises(FrozenInstanceError):
        damage.frame = 0  # type: ignore[misc]


def test_description_counts_all_and_names_the_first() -> None:
    damages = [Damage(frame, 0, "bad") for frame in range(12)]
    assert describe_damage([]) == "0"
    assert describe_damage(damages[:1]) == "1 (frame 0, channel 0: bad)"
    assert describe_damage(damages[:2]) == "2 (frame 0, channel 0: bad; frame 1, channel 0: bad)"
    assert describe_damage(damages[:10]).startswith("10 (frame 0")
    assert describe_damage(damages[:10]).endswith("; frame 9, channel 0: bad)")
    assert describe_damage(damages[:11]).endswith("; frame 9, channel 0: bad; and 1 more)")
    assert describe_damage(tuple(damages)).endswith("; frame 9, channel 0: bad; and 2 more)")
    assert describe_damage(damages, most=1) == "12 (frame 0, channel 0: bad; and 11 more)"
    assert describe_damage(damages, 12).count("frame") == 12


def test_reading_goes_on_behind_damage_that_was_refused(aea_bytes: bytes) -> None:
    data = bytearray(aea_bytes)
    for frame in (3, 6):
        data[2048 + 424 * frame] |= 0x40
    reader, named = AeaReader(io.BytesIO(bytes(data)), RaiseDamage()), []
    for _ in range(9):
        try:
            reader.read(1)
        except SoundUnitError as error:
            named.append(str(error).split(",")[0])
    assert named == ["frame 3", "frame 6"]
    assert reader.position == 9


@pytest.mark.parametrize(
    "answer", [np.zeros((), np.uint8), np.zeros(211, np.uint8), np.zeros(212), np.full(212, 0x40, np.uint8)]
)
def test_what_a_policy_gives_must_be_a_readable_unit(answer: np.ndarray, aea_bytes: bytes) -> None:
    class Own(DamagePolicy):
        def replace(self, damage: Damage, before: np.ndarray | None) -> np.ndarray:
            assert before is not None
            before[:] = 0xFF  # its own copy
            return answer

    data = bytearray(aea_bytes)
    data[2048 + 424 * 3] |= 0x40
    reader = AeaReader(io.BytesIO(bytes(data)), Own())
    with pytest.raises(ValueError, match="Own gave no sound unit that can be read, for frame 3, channel 0"):
        reader.read()


def test_random_bytes_rarely_pass_for_a_sound_unit() -> None:
    units = np.random.default_rng(0).integers(0, 256, (10_000, 212), dtype=np.uint8)
    assert len(units) - len(find_damage(units)) == 173
