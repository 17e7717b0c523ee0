"""One sound unit: 212 bytes to five fields and back, all of it or an error that says what is wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import SoundUnit, SoundUnitError, UnitArrays, readable_value_bits
from atrac_bitstream import tables as t

Golden = tuple[NDArray[np.uint8], UnitArrays]
MakeSilence = Callable[..., SoundUnit]


def with_entry(length: int, place: int, value: int) -> tuple[int, ...]:
    """Return zeros but for one place."""
    return (0,) * place + (value,) + (0,) * (length - place - 1)


# Golden -------------------------------------------------------------------------------------------


def test_golden_units_cover_the_format(golden_units: NDArray[np.uint8], all_golden: dict[str, Golden]) -> None:
    units = [SoundUnit.unpack(data) for data in golden_units]
    assert len(units) == 85
    assert {unit.bsm for unit in units} == {(low, mid, high) for low in (0, 2) for mid in (0, 2) for high in (0, 3)}
    assert {unit.n_bfu for unit in units} == set(t.BFU_AMOUNTS)
    assert {index for unit in units for index in unit.idwl} == set(range(16))
    assert {units.shape[1] for units, _ in all_golden.values()} == {1, 2}


def test_golden_units_unpack_to_the_fields_of_their_encoder_and_pack_to_its_bytes(golden: Golden) -> None:
    units, fields = golden
    for index in np.ndindex(units.shape[:2]):
        unit = SoundUnit.unpack(units[index].tobytes())
        for name, field in zip(UnitArrays._fields, fields):
            assert (np.array(getattr(unit, name)) == field[index]).all()
        assert unit.residue == b""
        assert SoundUnit(*(field[index] for field in fields)).pack() == units[index].tobytes()  # of NumPy's integers


# A unit by hand -----------------------------------------------------------------------------------


def test_unit_by_hand() -> None:
    # Low band split, so BFU 1 begins at coefficient 32; its 8 values have 3 bits and follow those of BFU 0.
    values = {0: 1, 7: -1, 32: 3, 33: -3, 39: -4}
    unit = SoundUnit(
        bsm=(2, 0, 0),
        n_bfu=28,
        idwl=(1, 2) + (0,) * 50,
        idsf=(63, 1) + (0,) * 50,
        quantized=tuple(values.get(k, 0) for k in range(512)),
    )
    bits = "00 10 11 00" + "001 00000"  # stored 2 - 2, 2 - 0, 3 - 0, reserved; amount 1, reserved
    bits += "0001 0010" + 26 * "0000" + "111111 000001" + 26 * "000000"
    bits += "01 00 00 00 00 00 00 11" + "011 101 000 000 000 000 000 100"
    number = int(bits.replace(" ", "").ljust(1696, "0"), 2)
    assert unit.pack() == number.to_bytes(212, "big")
    assert SoundUnit.unpack(unit.pack()) == unit
    assert unit.used_bits == 8 * 2 + 8 * 3


def test_212_zero_bytes_are_a_silent_unit_of_short_blocks() -> None:
    unit = SoundUnit.unpack(bytes(212))
    assert (unit.bsm, unit.n_bfu, unit.used_bits, unit.residue) == ((2, 2, 3), 20, 0, b"")
    assert unit.pack() == bytes(212)


def test_reserved_bits_and_the_tail_are_kept_as_residue(silence: MakeSilence) -> None:
    data = bytearray(silence().pack())
    data[0] |= 0b11
    data[1] |= 0b11111
    data[211] = 0xAC
    unit = SoundUnit.unpack(bytes(data))
    residue = bytearray(212)
    residue[0], residue[1], residue[211] = 0b11, 0b11111, 0xAC
    assert unit.residue == bytes(residue)
    assert unit.pack() == bytes(data)
    assert unit == silence(residue=bytes(residue))
    assert silence(residue=bytes(212)) == silence()


def test_values_may_fill_all_that_a_reader_accepts(silence: MakeSilence) -> None:
    # 20 BFUs leave 1464 bits: (4 x 8 + 2 x 4 + 4 x 8) x 16 = 1152 and 3 x 6 x 16 + 6 x 4 = 312.
    idwl = (15,) * 6 + (0, 0) + (15,) * 4 + (15, 15, 15, 3) + (0,) * 36
    unit = silence(idwl=idwl)
    assert unit.used_bits == readable_value_bits(20) == 1464
    last = silence(idwl=idwl, quantized=with_entry(512, int(t.BFU_OFFSETS[16]) - 1, -8))
    assert last.pack()[208:] == bytes([0, 0b1000, 0, 0])
    assert SoundUnit.unpack(last.pack()) == last


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_unpack_takes_any_kind_of_bytes(kind: Callable[[bytes], Any], silence: MakeSilence) -> None:
    assert SoundUnit.unpack(kind(silence().pack())) == silence()


# Properties ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_legal_unit_survives_pack_and_unpack(
    data: st.DataObject, legal_units: st.SearchStrategy[SoundUnit]
) -> None:
    unit = data.draw(legal_units)
    packed = unit.pack()
    assert len(packed) == 212
    assert SoundUnit.unpack(packed) == unit


# Errors -------------------------------------------------------------------------------------------

N_BFU_RULE = "allowed 20, 28, 32, 36, 40, 44, 48, 52"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"bsm": (0, 0)}, "bsm has 2 entries, allowed 3"),
    ({"bsm": (1, 0, 0)}, "bsm[0] = 1, allowed 0 (long) and 2 (short)"),
    ({"bsm": (0, 3, 0)}, "bsm[1] = 3, allowed 0 (long) and 2 (short)"),
    ({"bsm": (0, 0, 2)}, "bsm[2] = 2, allowed 0 (long) and 3 (short)"),
    ({"n_bfu": 0}, f"n_bfu = 0, {N_BFU_RULE}"),
    ({"idwl": (0,) * 51}, "idwl has 51 entries, allowed 52"),
    ({"idwl": with_entry(52, 3, 16)}, "idwl[3] = 16, allowed 0..15 with n_bfu = 20"),
    ({"idwl": with_entry(52, 0, -1)}, "idwl[0] = -1, allowed 0..15 with n_bfu = 20"),
    ({"idwl": with_entry(52, 20, 1)}, "idwl[20] = 1, allowed 0..0 with n_bfu = 20"),
    ({"idwl": with_entry(52, 51, 1), "n_bfu": 48}, "idwl[51] = 1, allowed 0..0 with n_bfu = 48"),
    ({"idsf": (0,) * 53}, "idsf has 53 entries, allowed 52"),
    ({"idsf": with_entry(52, 17, 64)}, "idsf[17] = 64, allowed 0..63 with n_bfu = 20"),
    ({"idsf": with_entry(52, 19, -1)}, "idsf[19] = -1, allowed 0..63 with n_bfu = 20"),
    (
        {"idwl": (15,) * 6 + (0, 0) + (15,) * 4 + (15, 15, 15, 4) + (0,) * 36},
        "values take 1470 bits, allowed 1464 with n_bfu = 20",
    ),
    ({"quantized": (0,) * 511}, "quantized has 511 entries, allowed 512"),
    ({"residue": bytes(211)}, "residue has 211 bytes, allowed 0 and 212"),
    (
        {"residue": b"\x80" + bytes(211)},
        "residue has bits in the place of a field, allowed only outside the fields",
    ),
    (
        {"residue": bytes(27) + b"\x80" + bytes(184), "idwl": with_entry(52, 0, 1)},
        "residue has bits in the place of a field, allowed only outside the fields",
    ),
    (
        {"idwl": with_entry(52, 0, 1), "quantized": with_entry(512, 7, 2)},
        "quantized[7] = 2, allowed -2..1 at a word length of 2",
    ),
    (
        {"idwl": with_entry(52, 1, 15), "quantized": with_entry(512, 15, -32769)},
        "quantized[15] = -32769, allowed -32768..32767 at a word length of 16",
    ),
    (
        {"idwl": with_entry(52, 1, 3), "quantized": with_entry(512, 32, 8), "bsm": (2, 0, 0)},
        "quantized[32] = 8, allowed -8..7 at a word length of 4",
    ),
    ({"quantized": with_entry(512, 300, -1)}, "quantized[300] = -1, allowed 0: its BFU has no bits"),
    (
        {"idwl": with_entry(52, 1, 3), "quantized": with_entry(512, 8, 1), "bsm": (2, 0, 0)},
        "quantized[8] = 1, allowed 0: its BFU has no bits",
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_field_out_of_range_is_named(fields: dict[str, Any], message: str, silence: MakeSilence) -> None:
    with pytest.raises(SoundUnitError) as caught:
        silence(**fields)
    assert str(caught.value) == message


UNREADABLE = [
    (b"", "a sound unit of 0 bytes, allowed 212"),
    (bytes(211), "a sound unit of 211 bytes, allowed 212"),
    (b"\x40" + bytes(211), "bsm[0] = 1, allowed 0 (long) and 2 (short)"),
    (b"\xc0" + bytes(211), "bsm[0] = -1, allowed 0 (long) and 2 (short)"),
    (b"\x04" + bytes(211), "bsm[2] = 2, allowed 0 (long) and 3 (short)"),
    (b"\x08" + bytes(211), "bsm[2] = 1, allowed 0 (long) and 3 (short)"),
    (b"\xac\xe0" + b"\xff" * 210, "values take 8192 bits, allowed 1144 with n_bfu = 52"),
]


@pytest.mark.parametrize(("raw", "message"), UNREADABLE, ids=[message for _, message in UNREADABLE])
def test_bytes_that_are_no_unit_are_refused_by_the_field_at_fault(raw: bytes, message: str) -> None:
    with pytest.raises(SoundUnitError) as caught:
        SoundUnit.unpack(raw)
    assert str(caught.value) == message
