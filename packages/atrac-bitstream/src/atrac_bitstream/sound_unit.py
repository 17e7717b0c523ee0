"""One sound unit: 212 bytes, one frame of one channel.

    bsm 2 2 2 | 0 2 | n_bfu 3 | 0 5 | idwl 4 x n_bfu | idsf 6 x n_bfu | values | 0 ... | mirror 16

This file is the readable specification of the format; `arrays.py` does the same for whole files at once, and tests
compare the two. Source: docs/format.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from atrac_bitstream import tables as t
from atrac_bitstream.bits import BitReader, bit_text
from atrac_bitstream.errors import SoundUnitError


@dataclass(frozen=True)
class SoundUnit:
    """The five fields of a sound unit, as integers, and whatever bits surround them.

    Args:
        bsm: block size mode of the low, mid and high band: 0 long; 2, 2, 3 short.
        n_bfu: number of BFUs carried, one of 20, 28, 32, 36, 40, 44, 48, 52.
        idwl: word length index of each BFU, 0..15; 0 from n_bfu on. Length 52.
        idsf: scale factor index of each BFU, 0..63; 0 from n_bfu on. Length 52.
        quantized: 512 values in spectrum order, two's complement in the word length of their BFU. Encoders stay
            within +-(2 ** (word length - 1) - 1); the one code below that is read and written back as found.
        residue: the 212 bytes with all bits of the fields above cleared: reserved bits and everything after the
            last value. Empty when all of it is zero, as in every unit we make.

    Raises:
        SoundUnitError: a field is out of its range; the message names field, place and range.

    Example:
        >>> silence = SoundUnit((0, 0, 0), 20, (0,) * 52, (0,) * 52, (0,) * 512)
        >>> silence.pack()[:2].hex()
        'ac00'
        >>> SoundUnit.unpack(silence.pack()) == silence
        True
    """

    bsm: tuple[int, int, int]
    n_bfu: int
    idwl: tuple[int, ...]
    idsf: tuple[int, ...]
    quantized: tuple[int, ...]
    residue: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_bfu", int(self.n_bfu))  # NumPy's integers would overflow in `pack`
        sizes = {"bsm": t.N_BANDS, "idwl": t.N_BFU_MAX, "idsf": t.N_BFU_MAX, "quantized": t.FRAME_SAMPLES}
        for name, size in sizes.items():
            entries = tuple(map(int, getattr(self, name)))
            object.__setattr__(self, name, entries)
            if len(entries) != size:
                raise SoundUnitError(f"{name} has {len(entries)} entries, allowed {size}")
        for band, (mode, short) in enumerate(zip(self.bsm, t.BSM_SHORT, strict=True)):
            if mode not in (0, short):
                raise SoundUnitError(f"bsm[{band}] = {mode}, allowed 0 (long) and {short} (short)")
        if self.n_bfu not in t.BFU_AMOUNTS:
            raise SoundUnitError(f"n_bfu = {self.n_bfu}, allowed {', '.join(map(str, t.BFU_AMOUNTS))}")
        for name, indices, largest in (("idwl", self.idwl, t.IDWL_MAX), ("idsf", self.idsf, t.IDSF_MAX)):
            for bfu, index in enumerate(indices):
                allowed = largest if bfu < self.n_bfu else 0
                if not 0 <= index <= allowed:
                    raise SoundUnitError(f"{name}[{bfu}] = {index}, allowed 0..{allowed} with n_bfu = {self.n_bfu}")
        if self.used_bits > (room := t.readable_value_bits(self.n_bfu)):
            raise SoundUnitError(f"values take {self.used_bits} bits, allowed {room} with n_bfu = {self.n_bfu}")
        if self.residue and len(self.residue) != t.SOUND_UNIT_BYTES:
            raise SoundUnitError(f"residue has {len(self.residue)} bytes, allowed 0 and {t.SOUND_UNIT_BYTES}")
        if not any(self.residue):
            object.__setattr__(self, "residue", b"")
        if int.from_bytes(self.residue, "big") & self._field_mask():
            raise SoundUnitError("residue has bits in the place of a field, allowed only outside the fields")
        limits = dict.fromkeys(range(t.FRAME_SAMPLES), (0, 0, ": its BFU has no bits"))
        for values, width in self._value_ranges():
            limit = 1 << width - 1
            limits.update(dict.fromkeys(values, (-limit, limit - 1, f" at a word length of {width}")))
        for k, (least, most, why) in limits.items():
            if not least <= self.quantized[k] <= most:
                span = f"{least}..{most}" if most else "0"
                raise SoundUnitError(f"quantized[{k}] = {self.quantized[k]}, allowed {span}{why}")

    @property
    def used_bits(self) -> int:
        """Bits that the quantized values take."""
        return sum(int(t.WORD_LENGTHS[i]) * int(n) for i, n in zip(self.idwl, t.BFU_SIZES, strict=True))

    @classmethod
    def unpack(cls, data: bytes) -> SoundUnit:
        """Read a sound unit from its 212 bytes.

        Raises:
            SoundUnitError: the length is not 212, a stored block size mode is undefined, or the word lengths need
                more bits than there are.
        """
        data = bytes(memoryview(data))
        if len(data) != t.SOUND_UNIT_BYTES:
            raise SoundUnitError(f"a sound unit of {len(data)} bytes, allowed {t.SOUND_UNIT_BYTES}")
        reader = BitReader(data)
        low, mid, high = (stored - reader.unsigned(t.BSM_BITS) for stored in t.BSM_STORED_LONG)
        reader.unsigned(t.BSM_RESERVED_BITS)
        n_bfu = t.BFU_AMOUNTS[reader.unsigned(t.N_BFU_BITS)]
        reader.unsigned(t.N_BFU_RESERVED_BITS)
        absent = (0,) * (t.N_BFU_MAX - n_bfu)
        idwl = tuple(reader.unsigned(t.IDWL_BITS) for _ in range(n_bfu)) + absent
        idsf = tuple(reader.unsigned(t.IDSF_BITS) for _ in range(n_bfu)) + absent
        head = cls((low, mid, high), n_bfu, idwl, idsf, (0,) * t.FRAME_SAMPLES)

        quantized = [0] * t.FRAME_SAMPLES
        for values, width in head._value_ranges():
            for k in values:
                quantized[k] = reader.signed(width)
        residue = int.from_bytes(data, "big") & ~head._field_mask()
        return replace(
            head,
            quantized=tuple(quantized),
            residue=residue.to_bytes(t.SOUND_UNIT_BYTES, "big") if residue else b"",
        )

    def pack(self) -> bytes:
        """Write the sound unit as 212 bytes. `unpack` then gives this unit again, and the other way round."""
        fields = [
            *((stored - mode, t.BSM_BITS) for stored, mode in zip(t.BSM_STORED_LONG, self.bsm, strict=True)),
            (0, t.BSM_RESERVED_BITS),
            (t.BFU_AMOUNTS.index(self.n_bfu), t.N_BFU_BITS),
            (0, t.N_BFU_RESERVED_BITS),
            *((index, t.IDWL_BITS) for index in self.idwl[: self.n_bfu]),
            *((index, t.IDSF_BITS) for index in self.idsf[: self.n_bfu]),
            *((self.quantized[k], width) for values, width in self._value_ranges() for k in values),
        ]
        unit = int(bit_text(fields, t.SOUND_UNIT_BITS), 2) | int.from_bytes(self.residue, "big")
        return unit.to_bytes(t.SOUND_UNIT_BYTES, "big")

    def _value_ranges(self) -> Iterator[tuple[range, int]]:
        """Yield the coefficients and the word length of each BFU that has bits, in bitstream order."""
        for bfu, size in enumerate(t.BFU_SIZES.tolist()):
            if width := int(t.WORD_LENGTHS[self.idwl[bfu]]):
                split = self.bsm[t.BFU_BANDS[bfu]]
                start = int(t.BFU_STARTS_SHORT[bfu] if split else t.BFU_OFFSETS[bfu])
                yield range(start, start + size), width

    def _field_mask(self) -> int:
        """Return 1696 bits, ones where the fields are."""
        fields = [
            (-1, t.N_BANDS * t.BSM_BITS),
            (0, t.BSM_RESERVED_BITS),
            (-1, t.N_BFU_BITS),
            (0, t.N_BFU_RESERVED_BITS),
            (-1, (t.IDWL_BITS + t.IDSF_BITS) * self.n_bfu + self.used_bits),
        ]
        return int(bit_text(fields, t.SOUND_UNIT_BITS), 2)
