"""Bit fields: one at a time, many at once, and the two agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream.bits import BitReader, bit_text, gather_words, place_words, words_at_bytes

FIELDS = st.lists(st.integers(0, 16).flatmap(lambda w: st.tuples(st.integers(0, (1 << w) - 1), st.just(w))))
Ints = NDArray[np.int64]


@pytest.mark.parametrize(
    ("text", "value"),
    [("000", 0), ("011", 3), ("100", -4), ("111", -1), ("1", -1), ("10000000", -128), ("01111111", 127)],
)
def test_signed_is_twos_complement_most_significant_bit_first(text: str, value: int) -> None:
    data = int(text.ljust(8, "0"), 2).to_bytes(1, "big")
    assert BitReader(data).signed(len(text)) == value
    assert bit_text([(value, len(text))], 8) == text.ljust(8, "0")


@settings(deadline=None, max_examples=60)
@given(fields=FIELDS)
def test_reader_inverts_text(fields: list[tuple[int, int]]) -> None:
    size = sum(width for _, width in fields)
    n_bytes = -(-size // 8)
    text = bit_text(fields, 8 * n_bytes)
    assert len(text) == 8 * n_bytes
    data = int(text or "0", 2).to_bytes(n_bytes, "big")
    reader = BitReader(data)
    assert [reader.unsigned(width) for _, width in fields] == [value for value, _ in fields]
    assert reader.position == size
    reader = BitReader(data)
    assert [reader.signed(width) if width else 0 for _, width in fields] == [
        value - (1 << width) if value >> max(width - 1, 0) else value for value, width in fields
    ]


@st.composite
def placed_fields(draw: st.DrawFn) -> tuple[Ints, Ints, Ints, int]:
    """Return words, positions, widths and bytes of fields that do not overlap, in any order."""
    fields, gaps = draw(FIELDS), draw(st.lists(st.integers(0, 30), min_size=1))
    position, rows = 0, []
    for i, (word, width) in enumerate(fields):
        position += gaps[i % len(gaps)]
        rows.append((word, position, width))
        position += width
    words, positions, widths = np.array(draw(st.permutations(rows)), np.int64).reshape(-1, 3).T
    return words, positions, widths, position // 8 + draw(st.integers(1, 4))


@settings(deadline=None, max_examples=60)
@given(fields=placed_fields())
def test_place_words_writes_each_field_at_its_bits_and_gather_words_inverts_it(
    fields: tuple[Ints, Ints, Ints, int],
) -> None:
    words, positions, widths, n_bytes = fields
    slow = 0
    for word, position, width in zip(words.tolist(), positions.tolist(), widths.tolist()):
        slow |= word << (8 * n_bytes - position - width)
    placed = place_words(words, positions, widths, n_bytes)
    assert placed.dtype == np.uint8
    assert placed.tobytes() == slow.to_bytes(n_bytes, "big")
    got = gather_words(words_at_bytes(placed), positions, widths)
    assert (got & ((1 << widths) - 1) == words).all()


@settings(deadline=None, max_examples=60)
@given(data=st.binary(min_size=1, max_size=40), draws=st.lists(st.tuples(st.integers(0, 319), st.integers(0, 16))))
def test_gather_words_agrees_with_the_reader_wherever_fields_lie(data: bytes, draws: list[tuple[int, int]]) -> None:
    starts = [start % (8 * len(data)) for start, _ in draws]
    fields = [(start, min(width, 8 * len(data) - start)) for start, (_, width) in zip(starts, draws)]
    positions, widths = np.array(fields, np.int64).reshape(-1, 2).T
    expected = []
    for start, width in fields:
        reader = BitReader(data)
        reader.unsigned(start)
        expected.append(reader.signed(width) if width else 0)
    assert gather_words(words_at_bytes(np.frombuffer(data, np.uint8)), positions, widths).tolist() == expected


def test_words_begin_at_every_byte_and_end_in_zeros() -> None:
    data = np.array([0x12, 0x34, 0x56, 0x78, 0x9A], np.uint8)
    expected = [0x12345678, 0x3456789A, 0x56789A00, 0x789A0000, 0x9A000000]
    assert words_at_bytes(data).tolist() == expected
    assert words_at_bytes(data[:0]).tolist() == []
