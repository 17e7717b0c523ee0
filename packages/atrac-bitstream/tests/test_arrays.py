"""Many sound units at once: the same as one at a time, in any shape, and errors that name the unit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import SoundUnit, SoundUnitError, UnitArrays, pack_units, unpack_units

Golden = tuple[NDArray[np.uint8], UnitArrays]
LEADING = [(), (1,), (5,), (2, 3), (2, 1, 3)]
SIZES = {"bsm": (3,), "n_bfu": (), "idwl": (52,), "idsf": (52,), "quantized": (512,)}


def silent(*leading: int) -> dict[str, NDArray[np.int64]]:
    """Return writable fields of silent units of 20 BFUs."""
    fields = {name: np.zeros(leading + size, np.int64) for name, size in SIZES.items()}
    fields["n_bfu"] += 20
    return fields


def one_by_one(units: NDArray[np.uint8]) -> UnitArrays:
    """Unpack [n, 212] with a loop over `SoundUnit`."""
    each = [SoundUnit.unpack(data) for data in units]
    return UnitArrays(*(np.array([getattr(unit, name) for unit in each]) for name in UnitArrays._fields))


def assert_same(fields: UnitArrays, expected: UnitArrays) -> None:
    for name, field, other in zip(UnitArrays._fields, fields, expected):
        assert field.shape == other.shape, name
        assert (field == other).all(), name


# Golden -------------------------------------------------------------------------------------------


def test_golden_units_unpack_to_the_fields_of_their_encoder(golden: Golden) -> None:
    units, fields = golden
    assert_same(unpack_units(units), fields)


def test_golden_fields_pack_to_the_bytes_of_their_encoder(golden: Golden) -> None:
    units, fields = golden
    packed = pack_units(*fields)
    assert packed.dtype == np.uint8
    assert (packed == units).all()


def test_golden_units_agree_with_one_at_a_time(golden_units: NDArray[np.uint8]) -> None:
    assert_same(unpack_units(golden_units), one_by_one(golden_units))


# Shapes and dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", LEADING, ids=str)
def test_leading_dimensions_are_kept(leading: tuple[int, ...], golden_units: NDArray[np.uint8]) -> None:
    n = int(np.prod(leading))
    units = golden_units[10 : 10 + n]
    fields = unpack_units(units.reshape((*leading, 212)))
    for name, field, flat in zip(UnitArrays._fields, fields, one_by_one(units)):
        assert field.shape == leading + SIZES[name]
        assert field.dtype == np.int32
        assert (field.reshape(flat.shape) == flat).all()
    packed = pack_units(*fields)
    assert packed.shape == (*leading, 212)
    assert packed.tobytes() == units.tobytes()


@pytest.mark.parametrize("leading", [(0,), (0, 2), (2, 0), (0, 0)], ids=str)
def test_no_units_are_no_error(leading: tuple[int, ...]) -> None:
    fields = unpack_units(np.zeros((*leading, 212), np.uint8), first=7)
    assert {name: field.shape for name, field in zip(UnitArrays._fields, fields)} == {
        name: leading + size for name, size in SIZES.items()
    }
    packed = pack_units(*fields)
    assert packed.shape == (*leading, 212)
    assert packed.dtype == np.uint8


def test_layout_in_memory_does_not_matter(golden_units: NDArray[np.uint8]) -> None:
    units = golden_units[:20]
    expected = unpack_units(units)
    assert_same(unpack_units(np.asfortranarray(units)), expected)
    assert_same(unpack_units(golden_units[:40:2]), unpack_units(golden_units[:40:2].copy()))
    assert (pack_units(*(np.asfortranarray(field) for field in expected)) == units).all()
    read_only = units.copy()
    read_only.flags.writeable = False
    assert_same(unpack_units(read_only), expected)


def test_arguments_are_left_as_they_were(golden_units: NDArray[np.uint8]) -> None:
    units = golden_units.copy()
    fields = unpack_units(units)
    copies = [field.copy() for field in fields]
    pack_units(*fields)
    assert (units == golden_units).all()
    assert all((field == copy).all() for field, copy in zip(fields, copies))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, ">i4"], ids=str)
def test_any_integers_pack_to_the_same_bytes(dtype: Any, golden_units: NDArray[np.uint8]) -> None:
    fields = [field.astype(dtype) for field in unpack_units(golden_units)]
    assert (pack_units(*fields) == golden_units).all()


def test_lists_of_integers_pack_too(golden_units: NDArray[np.uint8]) -> None:
    fields = [field.tolist() for field in unpack_units(golden_units[3])]
    assert (pack_units(*fields) == golden_units[3]).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((2, 211), np.uint8), "data is uint8 [2, 211], expected uint8 [*, 212]"),
        (np.zeros((212, 2), np.uint8), "data is uint8 [212, 2], expected uint8 [*, 212]"),
        (np.zeros((), np.uint8), "data is uint8 [], expected uint8 [*, 212]"),
        (np.zeros((2, 212), np.int64), "data is int64 [2, 212], expected uint8 [*, 212]"),
        (np.zeros(212, np.int8), "data is int8 [212], expected uint8 [*, 212]"),
        (np.zeros(212, np.bool_), "data is bool [212], expected uint8 [*, 212]"),
        (np.zeros((0, 0), np.uint8), "data is uint8 [0, 0], expected uint8 [*, 212]"),
    ],
    ids=str,
)
def test_unpack_refuses_other_shapes_and_dtypes(data: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        unpack_units(data)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("dtype", ["float64", "bool"])
def test_pack_refuses_other_dtypes(name: str, dtype: str) -> None:
    fields: dict[str, NDArray[Any]] = {**silent(2, 3)}
    fields[name] = fields[name].astype(dtype)
    shape = [2, 3, *SIZES[name]]
    with pytest.raises(ValueError) as caught:
        pack_units(**fields)
    assert str(caught.value) == f"{name} is {dtype} {shape}, expected integers {shape}"


@pytest.mark.parametrize("name", ["bsm", "idwl", "idsf", "quantized"])
def test_pack_refuses_other_shapes(name: str) -> None:
    fields, shape = silent(4), [4, *SIZES[name]]
    fields[name] = fields[name][:, :-1]
    with pytest.raises(ValueError) as caught:
        pack_units(**fields)
    assert str(caught.value) == f"{name} is int64 {[4, shape[1] - 1]}, expected integers {shape}"
    fields[name] = np.zeros(shape[1:], np.int64)  # nothing is broadcast
    with pytest.raises(ValueError, match=f"^{name} is int64 "):
        pack_units(**fields)


def test_leading_dimensions_are_those_of_n_bfu() -> None:
    with pytest.raises(ValueError, match=r"^bsm is int64 \[4, 3\], expected integers \[3, 3\]$"):
        pack_units(**{**silent(4), "n_bfu": np.full(3, 20)})


# Properties ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_any_bytes_give_the_same_fields_as_one_at_a_time_or_both_refuse(
    data: st.DataObject, any_bytes: st.SearchStrategy[bytes]
) -> None:
    raw = np.frombuffer(data.draw(any_bytes), np.uint8)
    try:
        unit = SoundUnit.unpack(raw.tobytes())
    except SoundUnitError as error:
        message = str(error)
    else:
        message = ""
    if message:
        with pytest.raises(SoundUnitError) as caught:
            unpack_units(raw)
        assert str(caught.value) == message
        return
    fields = unpack_units(raw)
    assert (*map(tuple, (fields.bsm, fields.idwl, fields.idsf, fields.quantized)),) == (
        unit.bsm,
        unit.idwl,
        unit.idsf,
        unit.quantized,
    )
    assert fields.n_bfu == unit.n_bfu
    residue = np.frombuffer(unit.residue or bytes(212), np.uint8)
    assert (pack_units(*fields) | residue == raw).all()


@settings(deadline=None, max_examples=75)
@given(data=st.data())
def test_legal_units_pack_as_one_at_a_time_whatever_their_neighbours(
    data: st.DataObject, legal_units: st.SearchStrategy[SoundUnit]
) -> None:
    units = data.draw(st.lists(legal_units, min_size=1, max_size=4))
    fields = [np.array([getattr(unit, name) for unit in units]) for name in UnitArrays._fields]
    residue = np.array([list(unit.residue or bytes(212)) for unit in units], np.uint8)
    whole = np.array([list(unit.pack()) for unit in units], np.uint8)
    assert (pack_units(*fields) == whole ^ residue).all()
    assert_same(unpack_units(whole), UnitArrays(*fields))


def test_thousands_of_units_agree_with_one_at_a_time(golden_units: NDArray[np.uint8]) -> None:
    # Random values under golden headers: every bit of the values is in play, beside every neighbour.
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, len(golden_units), 3000)
    units = golden_units[kinds]
    fields = unpack_units(units)
    start = 16 + 10 * fields.n_bfu
    noise = rng.integers(0, 256, units.shape, np.uint8)
    behind = 8 * np.arange(212) >= start[:, None]
    units = np.where(behind, noise, units)
    fields = unpack_units(units)
    for i in range(0, 3000, 10):
        unit = SoundUnit.unpack(units[i])
        assert fields.quantized[i].tolist() == list(unit.quantized)
    again = pack_units(*fields)
    assert_same(unpack_units(again), fields)
    for i in range(0, 3000, 10):
        residue = SoundUnit.unpack(units[i]).residue or bytes(212)
        assert (again[i] | np.frombuffer(residue, np.uint8) == units[i]).all()


# Errors -------------------------------------------------------------------------------------------

N_BFU_RULE = "allowed 20, 28, 32, 36, 40, 44, 48, 52"
REFUSED: list[tuple[dict[str, Any], str]] = [  # entries of one unit, message without the place
    ({"bsm": {0: 1}}, "bsm[0] = 1, allowed 0 (long) and 2 (short)"),
    ({"bsm": {1: 3}}, "bsm[1] = 3, allowed 0 (long) and 2 (short)"),
    ({"bsm": {2: 2}}, "bsm[2] = 2, allowed 0 (long) and 3 (short)"),
    ({"n_bfu": {(): 21}}, f"n_bfu = 21, {N_BFU_RULE}"),
    ({"n_bfu": {(): 60}}, f"n_bfu = 60, {N_BFU_RULE}"),
    ({"n_bfu": {(): -1}}, f"n_bfu = -1, {N_BFU_RULE}"),
    ({"idwl": {19: 16}}, "idwl[19] = 16, allowed 0..15 with n_bfu = 20"),
    ({"idwl": {0: -1}}, "idwl[0] = -1, allowed 0..15 with n_bfu = 20"),
    ({"idwl": {20: 1}}, "idwl[20] = 1, allowed 0..0 with n_bfu = 20"),
    ({"idsf": {17: 64}}, "idsf[17] = 64, allowed 0..63 with n_bfu = 20"),
    ({"idsf": {17: -1}}, "idsf[17] = -1, allowed 0..63 with n_bfu = 20"),
    ({"idsf": {51: 1}}, "idsf[51] = 1, allowed 0..0 with n_bfu = 20"),
    ({"idwl": {range(20): 15}}, "values take 2048 bits, allowed 1464 with n_bfu = 20"),
    (
        {"idwl": {range(52): 2}, "n_bfu": {(): 52}},
        "values take 1536 bits, allowed 1144 with n_bfu = 52",
    ),
    ({"quantized": {511: 1}}, "quantized[511] = 1, allowed 0: its BFU has no bits"),
    ({"quantized": {0: -1}}, "quantized[0] = -1, allowed 0: its BFU has no bits"),
    ({"idwl": {1: 1}, "quantized": {8: 2}}, "quantized[8] = 2, allowed -2..1 at a word length of 2"),
    (
        {"idwl": {1: 15}, "quantized": {15: -32_769}},
        "quantized[15] = -32769, allowed -32768..32767 at a word length of 16",
    ),
    (
        {"bsm": {0: 2}, "idwl": {1: 3}, "quantized": {33: 8}},
        "quantized[33] = 8, allowed -8..7 at a word length of 4",
    ),
    (
        {"bsm": {0: 2}, "idwl": {1: 3}, "quantized": {8: 1}},
        "quantized[8] = 1, allowed 0: its BFU has no bits",
    ),
]
PLACES = [((), "", ()), ((5,), " (sound unit [3])", (3,)), ((5, 2), " (sound unit [3, 1])", (3, 1))]


@pytest.mark.parametrize(("leading", "place", "unit"), PLACES, ids=str)
@pytest.mark.parametrize(("entries", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_pack_names_field_place_value_range_and_unit(
    entries: dict[str, Any], message: str, leading: tuple[int, ...], place: str, unit: tuple[int, ...]
) -> None:
    fields = silent(*leading)
    for name, values in entries.items():
        for at, value in values.items():
            fields[name][(*unit, at) if at != () else unit] = value
    with pytest.raises(SoundUnitError) as caught:
        pack_units(**fields)
    assert str(caught.value) == message + place


DAMAGE: dict[str, tuple[Callable[[NDArray[np.uint8]], None], str]] = {
    "bsm low": (lambda unit: unit.__setitem__(0, 0x40), "bsm[0] = 1, allowed 0 (long) and 2 (short)"),
    "bsm mid": (lambda unit: unit.__setitem__(0, 0x10), "bsm[1] = 1, allowed 0 (long) and 2 (short)"),
    "bsm high": (lambda unit: unit.__setitem__(0, 0x04), "bsm[2] = 2, allowed 0 (long) and 3 (short)"),
    "idwl": (
        lambda unit: unit.__setitem__(slice(1, None), 0xFF),
        "values take 8192 bits, allowed 1144 with n_bfu = 52",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_unpack_names_the_damage_and_its_place(kind: str) -> None:
    damage, message = DAMAGE[kind]
    single = np.zeros(212, np.uint8)
    damage(single)
    many = np.zeros((3, 2, 2, 212), np.uint8)
    damage(many[2, 0, 1])
    cases = [
        (single, 0, message),
        (single, 9, message),
        (single[None], 0, f"{message} (sound unit [0])"),
        (single[None], 412, f"{message} (sound unit [412])"),
        (many[:, :, 1], 0, f"{message} (sound unit [2, 0])"),
        (many[:, :, 1], 4096, f"{message} (sound unit [4098, 0])"),
        (many, 0, f"{message} (sound unit [2, 0, 1])"),
        (many, 100, f"{message} (sound unit [102, 0, 1])"),
    ]
    for data, first, text in cases:
        with pytest.raises(SoundUnitError) as caught:
            unpack_units(data, first)
        assert str(caught.value) == text


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_first_of_several_units_with_the_same_damage_is_named(kind: str) -> None:
    damage, message = DAMAGE[kind]
    data = np.zeros((4, 2, 212), np.uint8)
    for unit in (data[3, 0], data[1, 1], data[2, 0]):
        damage(unit)
    with pytest.raises(SoundUnitError) as caught:
        unpack_units(data)
    assert str(caught.value) == f"{message} (sound unit [1, 1])"


def test_the_first_of_several_damaged_units_is_named() -> None:
    data = np.zeros((2, 212), np.uint8)
    DAMAGE["idwl"][0](data[0])
    DAMAGE["bsm low"][0](data[1])
    with pytest.raises(SoundUnitError, match=r"\(sound unit \[0\]\)$"):
        unpack_units(data)


@pytest.mark.parametrize("value", [2**64 - 1, 2**64 - 2])
def test_large_unsigned_values_are_out_of_range(value: int) -> None:
    fields: dict[str, NDArray[Any]] = {**silent()}
    fields["idwl"][0] = 1
    fields["quantized"] = np.zeros(512, np.uint64)
    fields["quantized"][0] = value
    with pytest.raises(SoundUnitError, match=rf"^quantized\[0\] = {value}, allowed -2\.\.1 "):
        pack_units(**fields)
