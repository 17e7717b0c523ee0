"""The header of an AEA file, byte by byte: what is written, what is read, what is refused."""

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrac_bitstream import AeaError, AeaHeader, AeaReader, TruncatedError, read_info


def header_bytes(changes: dict[int, bytes], channels: int = 1) -> bytes:
    """Return a header of zeros but for what must be there and some changes, by offset."""
    data = bytearray(2048)
    for offset, part in {0: b"\x00\x08\x00\x00", 264: bytes([channels]), **changes}.items():
        data[offset : offset + len(part)] = part
    return bytes(data)


# What is written ----------------------------------------------------------------------------------


def test_made_header_has_each_field_at_its_offset() -> None:
    data = AeaHeader.make(2, 0x01020304, "Suite", samples=0x1122334455667788).data
    assert len(data) == 2048
    tag = b"A1LENGTH" + bytes.fromhex("8877665544332211")
    assert data == header_bytes({4: b"Suite", 210: b"\x08", 260: bytes([4, 3, 2, 1]), 264: b"\x02", 1024: tag})
    assert AeaHeader.make(1).data == header_bytes({210: b"\x08"})


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("unit_count", [0, 2**32 - 1])
@pytest.mark.parametrize("samples", [None, 0, 2**64 - 1])
@pytest.mark.parametrize("title", ["", "Étude", "クラシック"])
def test_views_read_what_was_made(channels: int, unit_count: int, samples: int | None, title: str) -> None:
    header = AeaHeader.make(channels, unit_count, title, samples)
    views = (header.channels, header.unit_count, header.title, header.samples)
    assert views == (channels, unit_count, title, samples)


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("a" * 205, "a" * 205),
        ("a" * 1000, "a" * 205),
        ("a" * 204 + "é", "a" * 204),
        ("a" * 203 + "é", "a" * 203 + "é"),
        ("a" * 202 + "ク", "a" * 202 + "ク"),
        ("a" * 202 + "🎼", "a" * 202),
        ("a" * 201 + "🎼", "a" * 201 + "🎼"),
    ],
)
def test_title_is_cut_at_a_character_to_205_bytes(title: str, kept: str) -> None:
    header = AeaHeader.make(2, 16, title)
    assert header.title == kept
    assert header.data[4 : 4 + len(kept.encode())] == kept.encode()
    assert not any(header.data[4 + len(kept.encode()) : 210])
    assert header.data[209:211] == b"\x00\x08"


@settings(deadline=None, max_examples=50)
@given(title=st.text())
def test_any_title_leaves_the_other_fields_alone(title: str) -> None:
    header = AeaHeader.make(2, 7, title, 9)
    plain = AeaHeader.make(2, 7, "", 9)
    assert header.data[209:] == plain.data[209:]
    assert title.split("\0")[0].startswith(header.title)


def test_characters_that_no_file_can_hold_are_replaced() -> None:
    assert AeaHeader.make(1, title="a\ud800b").title == "a?b"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0,), "channels = 0, allowed 1 and 2"),
        ((3,), "channels = 3, allowed 1 and 2"),
        ((1, -1), "-1 sound units, allowed 0..4294967295"),
        ((1, 1 << 32), "4294967296 sound units, allowed 0..4294967295"),
        ((1, 0, "", -1), "-1 samples, allowed 0..18446744073709551615"),
        ((1, 0, "", 1 << 64), "18446744073709551616 samples, allowed 0..18446744073709551615"),
    ],
)
def test_make_refuses_what_fits_no_field(fields: tuple[Any, ...], message: str) -> None:
    with pytest.raises(AeaError) as caught:
        AeaHeader.make(*fields)
    assert str(caught.value) == message


# What is read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "title"),
    [
        (b"plain\0rest is not read", "plain"),
        ("クラシック".encode(), "クラシック"),
        ("Étude".encode("latin-1"), "Étude"),
        (b"\xff\xfe", "ÿþ"),
        (b"a" * 206 + b"\0", "a" * 206),
        (b"a" * 256, "a" * 256),
        ("é".encode("latin-1") * 256, "é" * 256),
    ],
    ids=str,
)
def test_title_is_read_to_its_end_in_utf8_or_latin1(field: bytes, title: str) -> None:
    assert AeaHeader(header_bytes({4: field})).title == title


@pytest.mark.parametrize("length", [206, 256])
def test_mark_is_no_part_of_a_title_that_reaches_it(length: int) -> None:
    title = AeaHeader(header_bytes({4: b"a" * length, 210: b"\x08"})).title
    assert title.startswith("a" * 206)
    assert "\x08" not in title


@pytest.mark.parametrize("tag", [b"", b"A1LENGTX" + bytes(8), b"a1length" + bytes(8)])
def test_no_length_without_the_tag(tag: bytes) -> None:
    assert AeaHeader(header_bytes({1024: tag})).samples is None


def test_more_than_a_header_is_cut_to_one() -> None:
    data = header_bytes({4: b"long"})
    assert AeaHeader(data + b"more").data == data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: b"RIFF"}, "the file begins with 52 49 46 46, an AEA file with 00 08 00 00"),
        ({3: b"\x01"}, "the file begins with 00 08 00 01, an AEA file with 00 08 00 00"),
        ({264: b"\x00"}, "channels = 0, allowed 1 and 2 (header byte 264)"),
        ({264: b"\x07"}, "channels = 7, allowed 1 and 2 (header byte 264)"),
    ],
    ids=str,
)
def test_what_is_no_aea_file_is_refused(changes: dict[int, bytes], message: str) -> None:
    for read in (
        AeaHeader,
        lambda data: AeaReader(io.BytesIO(data)),
        lambda data: read_info(io.BytesIO(data)),
    ):
        with pytest.raises(AeaError) as caught:
            read(header_bytes(changes))
        assert str(caught.value) == message
        assert not isinstance(caught.value, TruncatedError)
