"""Bit fields: one at a time, many at once, and the two agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream.bits import BitReader, BitWriter, gather_words, place_words, words_at_bytes

FIELDS = st.lists(st.integers(0, 16).flatmap(lambda w: st.tuples(st.integers(0, (1 << w) - 1), st.just(w))))


def test_reader_takes_the_most_significant_bit_first() -> None:
    reader = BitReader(bytes([0b10110001, 0b01000000]))
    assert [reader.unsigned(width) for width in (1, 2, 0, 5, 2)] == [1, 0b01, 0, 0b10001, 0b01]
    assert reader.position == 10


@pytest.mark.parametrize(
    ("byte", "width", "value"),
    [
        (0b000_00000, 3, 0),
        (0b011_00000, 3, 3),
        (0b100_00000, 3, -4),
        (0b111_00000, 3, -1),
        (0b1000_0000, 1, -1),
        (0b1000_0000, 8, -128),
        (0b0111_1111, 8, 127),
    ],
)
def test_signed_is_twos_complement(byte: int, width: int, value: int) -> None:
    assert BitReader(bytes([byte])).signed(width) == value
    writer = BitWriter()
    writer.write(value, width)
    assert writer.to_int(8) == byte


def test_writer_fills_with_zeros() -> None:
    writer = BitWriter()
    assert writer.to_int(16) == 0
    writer.write(0b101, 3)
    writer.write(0, 0)
    assert writer.position == 3
    assert writer.to_int(16) == 0b10100000_00000000


@settings(deadline=None)
@given(fields=FIELDS)
def test_reader_inverts_writer(fields: list[tuple[int, int]]) -> None:
    writer = BitWriter()
    for value, width in fields:
        writer.write(value, width)
    n_bytes = -(-writer.position // 8)
    reader = BitReader(writer.to_int(8 * n_bytes).to_bytes(n_bytes, "big"))
    assert [reader.unsigned(width) for _, width in fields] == [value for value, _ in fields]
    assert reader.position == writer.position


@settings(deadline=None)
@given(value=st.integers(-(1 << 15), (1 << 15) - 1), before=st.integers(0, 20))
def test_signed_reader_inverts_writer_at_every_width_that_holds_the_value(value: int, before: int) -> None:
    for width in range((value if value >= 0 else ~value).bit_length() + 1, 17):
        writer = BitWriter()
        writer.write(-1, before)
        writer.write(value, width)
        reader = BitReader(writer.to_int(48).to_bytes(6, "big"))
        assert reader.unsigned(before) == (1 << before) - 1
        assert reader.signed(width) == value


@st.composite
def placed_fields(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:
    """Return words, positions, widths and bytes of fields that do not overlap, in any order."""
    fields, gaps = draw(FIELDS), draw(st.lists(st.integers(0, 30), min_size=1))
    position, rows = 0, []
    for i, (word, width) in enumerate(fields):
        position += gaps[i % len(gaps)]
        rows.append((word, position, width))
        position += width
    rows = draw(st.permutations(rows))
    words, positions, widths = np.array(rows, np.int64).reshape(-1, 3).T
    n_bytes = position // 8 + draw(st.integers(1, 4))
    return words, positions, widths, n_bytes


@settings(deadline=None)
@given(fields=placed_fields())
def test_place_words_writes_each_field_at_its_bits_and_nothing_else(
    fields: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int],
) -> None:
    words, positions, widths, n_bytes = fields
    slow = 0
    for word, position, width in zip(words.tolist(), positions.tolist(), widths.tolist()):
        slow |= word << (8 * n_bytes - position - width)
    placed = place_words(words, positions, widths, n_bytes)
    assert placed.dtype == np.uint8
    assert placed.tobytes() == slow.to_bytes(n_bytes, "big")


@settings(deadline=None)
@given(fields=placed_fields())
def test_gather_words_inverts_place_words(
    fields: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int],
) -> None:
    words, positions, widths, n_bytes = fields
    placed = place_words(words, positions, widths, n_bytes)
    got = gather_words(words_at_bytes(placed), positions, widths)
    assert (got & ((1 << widths) - 1) == words).all()


@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=40), draws=st.lists(st.tuples(st.integers(0), st.integers(0, 16))))
def test_gather_words_agrees_with_reader(data: bytes, draws: list[tuple[int, int]]) -> None:
    # Overlapping fields are fine to read; the last bit and the whole of the last bytes are reached too.
    fields = [(start % (8 * len(data)), width) for start, width in draws]
    fields = [(start, min(width, 8 * len(data) - start)) for start, width in fields]
    positions, widths = np.array(fields, np.int64).reshape(-1, 2).T
    expected = []
    for start, width in fields:
        reader = BitReader(data)
        reader.unsigned(start)
        expected.append(reader.signed(width) if width else 0)
    words = words_at_bytes(np.frombuffer(data, np.uint8))
    assert gather_words(words, positions, widths).tolist() == expected


def test_nothing_is_placed_in_no_bytes() -> None:
    none = np.zeros(0, np.int64)
    assert place_words(none, none, none, 0).shape == (0,)
    assert place_words(none, none, none, 5).tolist() == [0] * 5
    assert gather_words(words_at_bytes(np.zeros(0, np.uint8)), none, none).shape == (0,)


def test_adjacent_16_bit_fields_at_odd_positions_do_not_disturb_one_another() -> None:
    n = 2000
    words = np.random.default_rng(0).integers(0, 1 << 16, n)
    positions, widths = 7 + 16 * np.arange(n), np.full(n, 16)
    placed = place_words(words, positions, widths, 2 * n + 1)
    got = gather_words(words_at_bytes(placed), positions, widths)
    assert (got & ((1 << widths) - 1) == words).all()
    assert placed[0] == words[0] >> 15


def test_words_begin_at_every_byte_and_end_in_zeros() -> None:
    data = np.array([0x12, 0x34, 0x56, 0x78, 0x9A], np.uint8)
    expected = [0x12345678, 0x3456789A, 0x56789A00, 0x789A0000, 0x9A000000]
    assert words_at_bytes(data).tolist() == expected
