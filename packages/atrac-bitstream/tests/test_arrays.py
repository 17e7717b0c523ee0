"""Many sound units at once: the same as one at a time, in any shape, and errors that name the unit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import SoundUnit, SoundUnitError, UnitArrays, find_damage, pack_units, unpack_units

Golden = tuple[NDArray[np.uint8], UnitArrays]
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


# Shapes and dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 1, 3), (0,), (2, 0)], ids=str)
def test_leading_dimensions_are_kept(leading: tuple[int, ...], golden_units: NDArray[np.uint8]) -> None:
    n = int(np.prod(leading))
    units = golden_units[10 : 10 + n].reshape((*leading, 212))
    fields = unpack_units(units, first=7)
    for name, field in zip(UnitArrays._fields, fields):
        assert field.shape == leading + SIZES[name]
        assert field.dtype == np.int32
    if n:
        flat = UnitArrays(*(field.reshape(n, *SIZES[name]) for name, field in zip(UnitArrays._fields, fields)))
        assert_same(flat, one_by_one(golden_units[10 : 10 + n]))
    packed = pack_units(*fields)
    assert packed.dtype == np.uint8
    assert packed.shape == units.shape
    assert packed.tobytes() == units.tobytes()


@pytest.mark.parametrize("dtype", [np.int16, np.int64, ">i4"], ids=str)
def test_layout_and_kind_of_integers_do_not_matter_and_arguments_stay(
    dtype: Any, golden_units: NDArray[np.uint8]
) -> None:
    units = golden_units.copy()
    units.flags.writeable = False
    fields = unpack_units(units)
    assert_same(unpack_units(np.asfortranarray(units)), fields)
    assert_same(unpack_units(units[::2]), UnitArrays(*(field[::2] for field in fields)))
    given = [np.asfortranarray(field.astype(dtype)) for field in fields]
    assert (pack_units(*given) == units).all()
    assert all((one == two).all() for one, two in zip(given, fields))
    assert (pack_units(*(field[3].tolist() for field in fields)) == units[3]).all()


@pytest.mark.parametrize("read", [unpack_units, find_damage])
@pytest.mark.parametrize(
    ("data", "found"),
    [
        (np.zeros((2, 211), np.uint8), "uint8 [2, 211]"),
        (np.zeros((), np.uint8), "uint8 []"),
        (np.zeros((2, 212), np.int64), "int64 [2, 212]"),
        (np.zeros(212, np.int8), "int8 [212]"),
        (np.zeros((0, 0), np.uint8), "uint8 [0, 0]"),
    ],
    ids=str,
)
def test_bytes_of_other_shapes_and_dtypes_are_refused(read: Any, data: NDArray[Any], found: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(data)
    assert str(caught.value) == f"data is {found}, expected uint8 [*, 212]"


@pytest.mark.parametrize("name", SIZES)
def test_fields_of_other_shapes_and_dtypes_are_refused(name: str) -> None:
    shape = [2, 3, *SIZES[name]]
    good = silent(2, 3)[name]
    wrong = [(good.astype("float64"), f"float64 {shape}"), (good.astype("bool"), f"bool {shape}")]
    if name != "n_bfu":  # which leads
        wrong += [(good[..., :-1], f"int64 {[*shape[:-1], shape[-1] - 1]}"), (good[0], f"int64 {shape[1:]}")]
    for field, found in wrong:
        with pytest.raises(ValueError) as caught:
            pack_units(**{**silent(2, 3), name: field})
        assert str(caught.value) == f"{name} is {found}, expected integers {shape}"


# Properties ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_bytes_give_the_same_fields_as_one_at_a_time_or_both_refuse(
    data: st.DataObject, golden_units: NDArray[np.uint8]
) -> None:
    raw = golden_units[data.draw(st.integers(0, len(golden_units) - 1))].copy()
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 211), st.integers(0, 255)), max_size=8)):
        raw[place % data.draw(st.sampled_from((31, 212)))] = value
    try:
        unit = SoundUnit.unpack(raw.tobytes())
    except SoundUnitError as error:
        with pytest.raises(SoundUnitError) as caught:
            unpack_units(raw)
        assert str(caught.value) == str(error)  # noqa: PT017
        return
    assert unit.pack() == raw.tobytes()
    fields = unpack_units(raw)
    for name, field in zip(UnitArrays._fields, fields):
        assert (field == getattr(unit, name)).all()
    residue = np.frombuffer(unit.residue or bytes(212), np.uint8)
    assert (pack_units(*fields) | residue == raw).all()


BORDERS = [-1, 0, 1, 2, 3, 7, 8, 15, 16, 20, 21, 52, 60, 63, 64, 32_767, 32_768, -32_769, 2**31, 2**40, -(2**40)]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_fields_pack_as_one_at_a_time_whatever_their_neighbours_or_both_refuse(
    data: st.DataObject, legal_units: st.SearchStrategy[SoundUnit]
) -> None:
    units = data.draw(st.lists(legal_units, min_size=1, max_size=4))
    whole = np.array([list(unit.pack()) for unit in units], np.uint8)
    residue = np.array([list(unit.residue or bytes(212)) for unit in units], np.uint8)
    fields = {name: np.array([getattr(unit, name) for unit in units]) for name in UnitArrays._fields}
    assert_same(unpack_units(whole), UnitArrays(**fields))
    assert (pack_units(**fields) == whole ^ residue).all()

    name, last = data.draw(st.sampled_from(UnitArrays._fields)), len(units) - 1
    place = (last, *(data.draw(st.integers(0, size - 1)) for size in SIZES[name]))
    fields[name][place] = data.draw(st.sampled_from(BORDERS))
    try:
        packed = SoundUnit(*(field[last].tolist() for field in fields.values())).pack()
    except SoundUnitError as error:
        with pytest.raises(SoundUnitError) as caught:
            pack_units(**fields)
        assert str(caught.value) == f"{error} (sound unit [{last}])"  # noqa: PT017
    else:
        assert pack_units(**fields)[last].tobytes() == packed


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**64 - 1, 2**64 - 2])
def test_large_unsigned_values_are_out_of_range(value: int) -> None:
    fields: dict[str, NDArray[Any]] = {**silent()}
    fields["idwl"][0] = 1
    fields["quantized"] = np.zeros(512, np.uint64)
    fields["quantized"][0] = value
    with pytest.raises(SoundUnitError, match=rf"^quantized\[0\] = {value}, allowed -2\.\.1 "):
        pack_units(**fields)


@pytest.mark.parametrize(("leading", "unit"), [((), ()), ((5,), (3,)), ((5, 2), (3, 1)), ((2, 2, 1), (1, 0, 0))])
def test_errors_name_field_value_range_and_the_first_unit_at_fault(
    leading: tuple[int, ...], unit: tuple[int, ...]
) -> None:
    fields = silent(*leading)
    data = np.zeros((*leading, 212), np.uint8)
    data.reshape(-1, 212)[-1, 0], fields["idsf"].reshape(-1, 52)[-1, 17] = 0x10, 65  # a later one
    data[unit][0], fields["idsf"][(*unit, 17)] = 0x40, 64
    place = f" (sound unit {list(unit)})" if unit else ""
    with pytest.raises(SoundUnitError) as caught:
        pack_units(**fields)
    assert str(caught.value) == f"idsf[17] = 64, allowed 0..63 with n_bfu = 20{place}"
    for first in (0, 412):
        place = f" (sound unit {[unit[0] + first, *unit[1:]]})" if unit else ""
        with pytest.raises(SoundUnitError) as caught:
            unpack_units(data, first)
        assert str(caught.value) == f"bsm[0] = 1, allowed 0 (long) and 2 (short){place}"
