"""Many sound units at once: bytes [*, 212] to the five fields as arrays and back, without a loop over units.

The layout is explained in `sound_unit.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atrac_bitstream import tables as t
from atrac_bitstream.bits import gather_words, place_words, words_at_bytes
from atrac_bitstream.errors import SoundUnitError
from atrac_bitstream.sound_unit import SoundUnit

Units = NDArray[np.uint8]
"""Sound units as bytes, [*, 212]."""
Ints = NDArray[np.int32]

_BLOCK = 512
"""Sound units worked on at a time: as many as stay in the processor's cache."""
_AMOUNTS = np.array(t.BFU_AMOUNTS, np.int32)
_BSM_SHORT = np.array(t.BSM_SHORT, np.int32)
_STORED_LONG = np.array(t.BSM_STORED_LONG, np.int32)
_BSM_POSITIONS = t.BSM_BITS * np.arange(t.N_BANDS, dtype=np.int32)
_N_BFU_POSITION = np.array([t.N_BANDS * t.BSM_BITS + t.BSM_RESERVED_BITS], np.int32)
_BFUS = np.arange(t.N_BFU_MAX, dtype=np.int32)
_IDWL_POSITIONS = t.HEADER_BITS + t.IDWL_BITS * _BFUS
_SIZES = t.BFU_SIZES.astype(np.int32)
_WORD_LENGTHS = t.WORD_LENGTHS.astype(np.int32)
_PLACE_IN_BFU = (np.arange(t.FRAME_SAMPLES) - t.BFU_OFFSETS[t.BFU_OF_VALUE]).astype(np.int32)
_SHORT_INVERSE = np.argsort(t.SHORT_ORDER)


class UnitArrays(NamedTuple):
    """The five fields of many sound units, as integers.

    Shape: bsm [*, 3], n_bfu [*], idwl [*, 52], idsf [*, 52], quantized [*, 512]
    """

    bsm: Ints
    n_bfu: Ints
    idwl: Ints
    idsf: Ints
    quantized: Ints


_FIELD_SIZES: tuple[tuple[int, ...], ...] = ((t.N_BANDS,), (), (t.N_BFU_MAX,), (t.N_BFU_MAX,), (t.FRAME_SAMPLES,))


def unpack_units(data: Units, first: int = 0) -> UnitArrays:
    """Read sound units.

    Args:
        data: sound units as bytes.
        first: added to the first index of the place that an error names, for data from the middle of a file.

    Shape:  data [*, 212] -> bsm [*, 3], n_bfu [*], idwl [*, 52], idsf [*, 52], quantized [*, 512]
    Dtype:  uint8 -> int32
    Raises:
        SoundUnitError: a unit has an undefined block size mode, or word lengths that need more bits than there are;
            the message names the first such unit by its place in data.
        ValueError: the last dimension is not 212, or the dtype not uint8.
    """
    units, leading = _flat_units(data)
    fields = UnitArrays(*(np.empty((len(units), *size), np.int32) for size in _FIELD_SIZES))
    for start in range(0, len(units), _BLOCK):
        block = slice(start, start + _BLOCK)
        bad = _unpack_block(units[block], UnitArrays(*(field[block] for field in fields)))
        if bad is not None:
            reason = _reason(SoundUnit.unpack, units[start + bad].tobytes())
            raise SoundUnitError(reason + _where(start + bad, leading, first))
    return UnitArrays(*(field.reshape(leading + field.shape[1:]) for field in fields))


def find_damage(data: Units) -> dict[tuple[int, ...], str]:
    """Find all sound units that `unpack_units` would refuse: the place of each in data, and what is wrong with it.

    Shape:  data [*, 212]
    Raises:
        ValueError: as `unpack_units`.
    """
    units, leading = _flat_units(data)
    found = {}
    for start in range(0, len(units), _BLOCK):
        block = units[start : start + _BLOCK]
        bsm, n_bfu, idwl = _read_header(words_at_bytes(block.reshape(-1)), len(block))
        for bad in start + np.flatnonzero(~_legal_header(bsm, n_bfu, idwl)):
            found[_index(int(bad), leading)] = _reason(SoundUnit.unpack, units[bad].tobytes())
    return found


def _flat_units(data: Units) -> tuple[Units, tuple[int, ...]]:
    """Check that data are sound units; return them as [n, 212], and their leading dimensions."""
    data = np.asarray(data)
    if data.dtype != np.uint8 or data.ndim < 1 or data.shape[-1] != t.SOUND_UNIT_BYTES:
        raise ValueError(f"data is {data.dtype} {list(data.shape)}, expected uint8 [*, {t.SOUND_UNIT_BYTES}]")
    return np.ascontiguousarray(data).reshape(-1, t.SOUND_UNIT_BYTES), data.shape[:-1]


def _read_fields(words: NDArray[np.uint32], n: int, positions: Ints, width: int) -> Ints:
    """Read unsigned fields at the same bit positions [k], or at positions of their own [n, k], of n units [n, k]."""
    positions = positions + (t.SOUND_UNIT_BITS * np.arange(n, dtype=np.int32))[:, None]
    return gather_words(words, positions, np.array(width, np.int32)) & ((1 << width) - 1)


def _read_header(words: NDArray[np.uint32], n: int) -> tuple[Ints, Ints, Ints]:
    """Read what decides whether units are legal: bsm [n, 3], n_bfu [n], idwl [n, 52]."""
    bsm = _STORED_LONG - _read_fields(words, n, _BSM_POSITIONS, t.BSM_BITS)
    n_bfu = _AMOUNTS[_read_fields(words, n, _N_BFU_POSITION, t.N_BFU_BITS)[:, 0]]
    idwl = _read_fields(words, n, _IDWL_POSITIONS, t.IDWL_BITS) * (n_bfu[:, None] > _BFUS)
    return bsm, n_bfu, idwl


def _unpack_block(units: Units, fields: UnitArrays) -> int | None:
    """Read sound units [n, 212] into `fields`; return the first damaged one, if there is one."""
    words, n = words_at_bytes(units.reshape(-1)), len(units)
    bsm, n_bfu, idwl, idsf, quantized = fields
    bsm[:], n_bfu[:], idwl[:] = _read_header(words, n)
    legal = _legal_header(bsm, n_bfu, idwl)
    if not legal.all():
        return int(np.argmin(legal))
    idsf[:] = _read_fields(words, n, _idsf_positions(n_bfu), t.IDSF_BITS) * (n_bfu[:, None] > _BFUS)
    widths, positions = _value_layout(n_bfu, idwl)
    quantized[:] = gather_words(words, positions + (t.SOUND_UNIT_BITS * np.arange(n, dtype=np.int32))[:, None], widths)
    short = np.flatnonzero(bsm.any(1))
    split = bsm[short][:, t.BAND_OF_VALUE] > 0
    quantized[short] = np.where(split, quantized[short][:, _SHORT_INVERSE], quantized[short])
    return None


def pack_units(bsm: ArrayLike, n_bfu: ArrayLike, idwl: ArrayLike, idsf: ArrayLike, quantized: ArrayLike) -> Units:
    """Write sound units.

    Args:
        bsm: 0 long; 2, 2, 3 short.
        n_bfu: one of `BFU_AMOUNTS`.
        idwl: 0..15, 0 from n_bfu on.
        idsf: 0..63, 0 from n_bfu on.
        quantized: in spectrum order, two's complement in the word length of their BFU.

    Shape:  bsm [*, 3], n_bfu [*], idwl [*, 52], idsf [*, 52], quantized [*, 512] -> [*, 212]
    Dtype:  any integers -> uint8
    Raises:
        SoundUnitError: a field is out of its range; the message names field, unit, place and range.
        ValueError: a shape does not fit, or a dtype is not an integer.
    """
    arrays = [np.asarray(a) for a in (bsm, n_bfu, idwl, idsf, quantized)]
    leading = arrays[1].shape
    for name, array, size in zip(UnitArrays._fields, arrays, _FIELD_SIZES, strict=True):
        if not np.issubdtype(array.dtype, np.integer) or array.shape != leading + size:
            expected = list(leading + size)
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, expected integers {expected}")
    flat = [array.reshape((-1, *size)) for array, size in zip(arrays, _FIELD_SIZES, strict=True)]
    packed = np.empty((len(flat[1]), t.SOUND_UNIT_BYTES), np.uint8)
    for start in range(0, len(packed), _BLOCK):
        block = slice(start, start + _BLOCK)
        bad = _pack_block(UnitArrays(*(_int32(array[block]) for array in flat)), packed[block])
        if bad is not None:
            entries = [array[start + bad].tolist() for array in flat]
            raise SoundUnitError(_reason(SoundUnit, *entries) + _where(start + bad, leading))
    return packed.reshape((*leading, t.SOUND_UNIT_BYTES))


def _pack_block(fields: UnitArrays, packed: Units) -> int | None:
    """Write sound units into `packed` [n, 212]; return the first illegal one, if there is one."""
    bsm, n_bfu, idwl, idsf, quantized = fields
    carried = n_bfu[:, None] > _BFUS
    legal = _legal_header(bsm, n_bfu, idwl)
    legal &= ((idsf >= 0) & (idsf <= t.IDSF_MAX * carried)).all(1)
    widths, positions = _value_layout(n_bfu, np.clip(idwl, 0, t.IDWL_MAX))
    values = quantized
    if len(short := np.flatnonzero(bsm.any(1))):
        values = quantized.copy()
        split = bsm[short][:, t.BAND_OF_VALUE] > 0
        values[short] = np.where(split, quantized[short][:, t.SHORT_ORDER], quantized[short])
    codes = 1 << widths
    # As an unsigned number, value + codes / 2 is below codes for every value of the word length and for no other.
    legal &= ((values + (codes >> 1)).view(np.uint32) < codes.view(np.uint32)).all(1)
    if not legal.all():
        return int(np.argmin(legal))

    columns: list[tuple[Ints, ...]] = [  # word, position in the unit, width; a field of 0 bits may stand anywhere
        (_STORED_LONG - bsm, _BSM_POSITIONS, np.array(t.BSM_BITS, np.int32)),
        (np.searchsorted(_AMOUNTS, n_bfu).astype(np.int32)[:, None], _N_BFU_POSITION, np.array(t.N_BFU_BITS, np.int32)),
        (idwl, _IDWL_POSITIONS, np.int32(t.IDWL_BITS) * carried),
        (idsf, _idsf_positions(n_bfu), np.int32(t.IDSF_BITS) * carried),
        (values & (codes - 1), positions, widths),
    ]
    words, places, sizes = (
        np.concatenate([np.broadcast_to(column[i], column[0].shape) for column in columns], axis=1) for i in range(3)
    )
    places += (t.SOUND_UNIT_BITS * np.arange(len(packed), dtype=np.int32))[:, None]
    packed[:] = place_words(words.ravel(), places.ravel(), sizes.ravel(), packed.size).reshape(packed.shape)
    return None


def _idsf_positions(n_bfu: Ints) -> Ints:
    """Return the bit position in the unit of each BFU's scale factor index [n, 52]."""
    return t.HEADER_BITS + t.IDWL_BITS * n_bfu[:, None] + t.IDSF_BITS * _BFUS


def _value_layout(n_bfu: Ints, idwl: Ints) -> tuple[Ints, Ints]:
    """Return width and bit position in the unit of each value, in bitstream order [n, 512]."""
    widths = _WORD_LENGTHS[idwl]
    used = widths * _SIZES
    starts = (
        t.HEADER_BITS + (t.IDWL_BITS + t.IDSF_BITS) * n_bfu[:, None] + np.cumsum(used, axis=1, dtype=np.int32) - used
    )
    widths, starts = np.repeat(widths, t.BFU_SIZES, axis=1), np.repeat(starts, t.BFU_SIZES, axis=1)
    return widths, starts + widths * _PLACE_IN_BFU


def _legal_header(bsm: Ints, n_bfu: Ints, idwl: Ints) -> NDArray[np.bool_]:
    """Tell which units have block modes, BFU amounts and word lengths that the format allows [n]."""
    legal: NDArray[np.bool_] = ((bsm == 0) | (bsm == _BSM_SHORT)).all(1) & np.isin(n_bfu, _AMOUNTS)
    legal &= ((idwl >= 0) & (idwl <= t.IDWL_MAX * (n_bfu[:, None] > _BFUS))).all(1)
    used = (_WORD_LENGTHS[np.clip(idwl, 0, t.IDWL_MAX)] * _SIZES).sum(1)
    legal &= used <= t.readable_value_bits(0) - (t.IDWL_BITS + t.IDSF_BITS) * n_bfu
    return legal


def _reason(make: Callable[..., SoundUnit], *arguments: Any) -> str:
    """Return the message of the error that `SoundUnit` raises for an illegal unit."""
    try:
        make(*arguments)
    except SoundUnitError as error:
        return str(error)
    raise AssertionError("SoundUnit takes a unit that was found illegal")


def _index(unit: int, leading: tuple[int, ...]) -> tuple[int, ...]:
    """Return the place in the array of a unit of its flat form."""
    return tuple(int(i) for i in np.unravel_index(unit, leading))


def _where(unit: int, leading: tuple[int, ...], first: int = 0) -> str:
    """Name the place of a unit in the array, for an error; nothing for an array of one unit."""
    index = _index(unit, leading) if leading else ()
    return f" (sound unit {[index[0] + first, *index[1:]]})" if index else ""


def _int32(array: NDArray[np.integer]) -> Ints:
    """Bring integers to int32; what is too large for it stays too large for any field."""
    if array.dtype.itemsize >= 4 and array.dtype != np.int32:
        limits = np.iinfo(np.int32)
        array = np.clip(array, None if array.dtype.kind == "u" else limits.min, limits.max)
    return array.astype(np.int32, copy=False)
