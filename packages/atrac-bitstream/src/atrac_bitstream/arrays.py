"""Many sound units at once: bytes [*, 212] to the five fields as arrays and back, without a loop over units.

The same layout as `sound_unit.py`, which is the one to read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atrac_bitstream import tables as t
from atrac_bitstream.bits import gather_words, place_words
from atrac_bitstream.errors import SoundUnitError
from atrac_bitstream.sound_unit import SoundUnit

_AMOUNTS = np.array(t.BFU_AMOUNTS)
_BSM_SHORT = np.array(t.BSM_SHORT)
_STORED_LONG = np.array(t.BSM_STORED_LONG)
_BSM_POSITIONS = t.BSM_BITS * np.arange(t.N_BANDS)
_N_BFU_POSITION = t.N_BANDS * t.BSM_BITS + t.BSM_RESERVED_BITS
_BFUS = np.arange(t.N_BFU_MAX)


class UnitArrays(NamedTuple):
    """The five fields of many sound units, as integers.

    Shape: bsm [*, 3], n_bfu [*], idwl [*, 52], idsf [*, 52], quantized [*, 512]
    """

    bsm: NDArray[np.integer]
    n_bfu: NDArray[np.integer]
    idwl: NDArray[np.integer]
    idsf: NDArray[np.integer]
    quantized: NDArray[np.integer]


def unpack_units(data: NDArray[np.uint8], first: int = 0) -> UnitArrays:
    """Read sound units.

    Args:
        data: sound units as bytes.
        first: what to count the first dimension of data from when a damaged unit is named.

    Shape:  data [*, 212] -> bsm [*, 3], n_bfu [*], idwl [*, 52], idsf [*, 52], quantized [*, 512]
    Dtype:  uint8 -> int32
    Raises:
        SoundUnitError: a unit has a block size mode that means nothing, or word lengths that ask for more bits
            than there are; the message names the first such unit by its place in data.
        ValueError: the last dimension is not 212, or the dtype not uint8.
    """
    data = np.asarray(data)
    if data.dtype != np.uint8 or data.ndim < 1 or data.shape[-1] != t.SOUND_UNIT_BYTES:
        raise ValueError(f"data is {data.dtype} {list(data.shape)}, expected uint8 [*, {t.SOUND_UNIT_BYTES}]")
    leading = data.shape[:-1]
    flat = np.ascontiguousarray(data).reshape(-1)
    base = t.SOUND_UNIT_BITS * np.arange(flat.size // t.SOUND_UNIT_BYTES)[:, None]

    def read(positions: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        return gather_words(flat, base + positions, np.array(width))

    bsm = _STORED_LONG - read(_BSM_POSITIONS, t.BSM_BITS)
    n_bfu = _AMOUNTS[read(np.array([_N_BFU_POSITION]), t.N_BFU_BITS)[:, 0]]
    carried = n_bfu[:, None] > _BFUS
    idwl = np.where(carried, read(t.HEADER_BITS + t.IDWL_BITS * _BFUS, t.IDWL_BITS), 0)
    idsf_start = t.HEADER_BITS + t.IDWL_BITS * n_bfu[:, None]
    idsf = np.where(carried, read(idsf_start + t.IDSF_BITS * _BFUS, t.IDSF_BITS), 0)
    if (bad := ~_legal_header(bsm, n_bfu, idwl)).any():
        unit = int(np.argmax(bad))
        with _named(unit, leading, first):
            SoundUnit.unpack(flat[unit * t.SOUND_UNIT_BYTES :][: t.SOUND_UNIT_BYTES].tobytes())

    value_widths, positions = _value_layout(n_bfu, idwl)
    words = gather_words(flat, base + positions, value_widths)
    sign = 1 << np.maximum(value_widths - 1, 0)
    values = (words ^ sign) - sign
    quantized = np.take_along_axis(values, _value_of_coefficient(bsm), axis=1)
    fields = (bsm, n_bfu, idwl, idsf, quantized)
    return UnitArrays(*(f.astype(np.int32).reshape(leading + f.shape[1:]) for f in fields))


def pack_units(
    bsm: ArrayLike, n_bfu: ArrayLike, idwl: ArrayLike, idsf: ArrayLike, quantized: ArrayLike
) -> NDArray[np.uint8]:
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
    sizes: tuple[tuple[int, ...], ...] = ((3,), (), (t.N_BFU_MAX,), (t.N_BFU_MAX,), (t.FRAME_SAMPLES,))
    for name, array, size in zip(UnitArrays._fields, arrays, sizes, strict=True):
        if not np.issubdtype(array.dtype, np.integer) or array.shape != leading + size:
            expected = list(leading + size)
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, expected integers {expected}")
    flat = [_int64(array).reshape((-1, *size)) for array, size in zip(arrays, sizes, strict=True)]
    bsm, n_bfu, idwl, idsf, quantized = flat

    carried = n_bfu[:, None] > _BFUS
    legal = _legal_header(bsm, n_bfu, idwl)
    legal &= ((idsf >= 0) & (idsf <= np.where(carried, t.IDSF_MAX, 0))).all(1)
    value_widths, value_positions = _value_layout(n_bfu, np.clip(idwl, 0, t.IDWL_MAX))
    order = np.where(bsm[:, t.BAND_OF_VALUE] > 0, t.SHORT_ORDER, np.arange(t.FRAME_SAMPLES))
    values = np.take_along_axis(quantized, order, axis=1)
    half = (1 << value_widths) >> 1
    legal &= ((values >= -half) & (values <= np.maximum(half - 1, 0))).all(1)
    if not legal.all():
        unit = int(np.argmin(legal))
        entries = [array.reshape(-1, *size)[unit].tolist() for array, size in zip(arrays, sizes, strict=True)]
        with _named(unit, leading):
            SoundUnit(*(tuple(e) if isinstance(e, list) else e for e in entries))  # type: ignore[arg-type]

    n = len(n_bfu)
    carried = n_bfu[:, None] > _BFUS
    idsf_start = t.HEADER_BITS + t.IDWL_BITS * n_bfu[:, None]
    idsf_widths = np.where(carried, t.IDSF_BITS, 0)
    columns: list[tuple[NDArray[np.int64], ArrayLike, ArrayLike]] = [  # word, position in the unit, width
        (_STORED_LONG - bsm, _BSM_POSITIONS, t.BSM_BITS),
        (np.searchsorted(_AMOUNTS, n_bfu)[:, None], _N_BFU_POSITION, t.N_BFU_BITS),
        (idwl, t.HEADER_BITS + t.IDWL_BITS * _BFUS, np.where(carried, t.IDWL_BITS, 0)),
        (idsf, np.where(carried, idsf_start + t.IDSF_BITS * _BFUS, 0), idsf_widths),
        (values & ((1 << value_widths) - 1), value_positions, value_widths),
    ]
    words, positions, widths = (
        np.concatenate([np.broadcast_to(column[i], column[0].shape) for column in columns], axis=1) for i in range(3)
    )
    positions = positions + t.SOUND_UNIT_BITS * np.arange(n)[:, None]
    packed = place_words(words.ravel(), positions.ravel(), widths.ravel(), n * t.SOUND_UNIT_BYTES)
    return packed.reshape((*leading, t.SOUND_UNIT_BYTES))


def _value_layout(n_bfu: NDArray[np.int64], idwl: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return width and bit position in the unit of each value, in bitstream order [n, 512]."""
    widths = t.WORD_LENGTHS[idwl][:, t.BFU_OF_VALUE]
    ends = np.cumsum(widths, axis=1)
    start = t.HEADER_BITS + (t.IDWL_BITS + t.IDSF_BITS) * n_bfu[:, None]
    return widths, start + ends - widths


def _value_of_coefficient(bsm: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each coefficient in spectrum order, its place in bitstream order [n, 512]."""
    return np.where(bsm[:, t.BAND_OF_VALUE] > 0, np.argsort(t.SHORT_ORDER), np.arange(t.FRAME_SAMPLES))


def _legal_header(bsm: NDArray[np.int64], n_bfu: NDArray[np.int64], idwl: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which units have block modes, BFU amounts and word lengths that the format allows [n]."""
    legal: NDArray[np.bool_] = ((bsm == 0) | (bsm == _BSM_SHORT)).all(1) & np.isin(n_bfu, _AMOUNTS)
    legal &= ((idwl >= 0) & (idwl <= np.where(n_bfu[:, None] > _BFUS, t.IDWL_MAX, 0))).all(1)
    used = t.WORD_LENGTHS[np.clip(idwl, 0, t.IDWL_MAX)] @ t.BFU_SIZES
    return legal & (used <= t.readable_value_bits(0) - (t.IDWL_BITS + t.IDSF_BITS) * n_bfu)


@contextlib.contextmanager
def _named(unit: int, leading: tuple[int, ...], first: int = 0) -> Iterator[None]:
    """Let the `SoundUnitError` that `SoundUnit` raises for an illegal unit name its place in the array."""
    try:
        yield
    except SoundUnitError as error:
        if not leading:
            raise
        index = [int(i) for i in np.unravel_index(unit, leading)]
        raise SoundUnitError(f"{error} (sound unit {[index[0] + first, *index[1:]]})") from None
    raise AssertionError("an illegal unit that SoundUnit takes for legal")


def _int64(array: NDArray[np.integer]) -> NDArray[np.int64]:
    """Widen to int64; what is too large for it stays too large for any field."""
    if array.dtype == np.uint64:
        array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
    return array.astype(np.int64)
