"""What an AEA file holds: header fields, length, block modes, BFU amounts, bits used, damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from atrac_bitstream import tables as t
from atrac_bitstream.aea import AeaReader
from atrac_bitstream.aea_header import AeaHeader
from atrac_bitstream.arrays import unpack_units
from atrac_bitstream.damage import Damage, SilenceDamage, describe_damage
from atrac_bitstream.whole_file import PathOrFile


@dataclass(frozen=True)
class AeaInfo:
    """Facts about a file.

    Args:
        title: from the header.
        channels: 1 or 2.
        frames: number of frames, by the length of the file.
        header_unit_count: number of sound units as the header states it.
        samples: PCM samples per channel from the length tag, None without a tag.
        duration: seconds, of the tagged samples if there is a tag, else of the frames.
        short_share: share of sound units with short blocks, in the low, mid and high band.
        n_bfu_counts: sound units for each number of BFUs.
        mean_value_bits: mean bits of quantized values in a sound unit.
        damages: sound units that cannot be read or are incomplete; the three facts before leave them out.
    """

    title: str
    channels: int
    frames: int
    header_unit_count: int
    samples: int | None
    duration: float
    short_share: tuple[float, ...]
    n_bfu_counts: dict[int, int]
    mean_value_bits: float
    damages: tuple[Damage, ...]

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield each fact as its name and a text to read."""
        for name, value in vars(self).items():
            text = describe_damage(self.damages) if name == "damages" else str(value)
            yield name.replace("_", " "), text


def read_info(source: PathOrFile, block: int = 4096, *, header: AeaHeader | None = None) -> AeaInfo:
    """Read a whole AEA file, `block` frames at a time, and describe it; damage is a part of the description.

    Args:
        source: path, or binary file object.
        block: frames read at a time.
        header: for a file without one, see `AeaReader`.

    Raises:
        ValueError: block is below 1.
        AeaError, TruncatedError: the header cannot be used.
        OSError: the file cannot be read.
    """
    if block < 1:
        raise ValueError(f"block = {block}, allowed from 1 on")
    with AeaReader(source, SilenceDamage(), header=header) as reader:
        header, channels = reader.header, reader.channels
        short = np.zeros(t.N_BANDS)
        amounts = np.zeros(t.N_BFU_MAX + 1, np.int64)
        bits = known = listed = 0
        for units in reader.blocks(block):
            good = np.ones(units.shape[:2], bool)
            for damage in reader.damages[listed:]:
                good[damage.frame - reader.position, damage.channel] = False
            listed = len(reader.damages)
            fields = unpack_units(units[good])
            short += (fields.bsm > 0).sum(0)
            amounts += np.bincount(fields.n_bfu, minlength=len(amounts))
            bits += int((t.WORD_LENGTHS[fields.idwl] @ t.BFU_SIZES).sum())
            known += len(fields.n_bfu)
        frames, damages = reader.position, tuple(reader.damages)
    samples = header.samples
    return AeaInfo(
        title=header.title,
        channels=channels,
        frames=frames,
        header_unit_count=header.unit_count,
        samples=samples,
        duration=(frames * t.FRAME_SAMPLES if samples is None else samples) / t.SAMPLE_RATE,
        short_share=tuple((short / max(known, 1)).tolist()),
        n_bfu_counts={n: int(amounts[n]) for n in t.BFU_AMOUNTS if amounts[n]},
        mean_value_bits=bits / max(known, 1),
        damages=damages,
    )
