"""What a file holds: facts of good files, and of damaged ones without what cannot be read."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream import AeaHeader, AeaInfo, UnitArrays, read_info

Units = NDArray[np.uint8]
Golden = tuple[Units, UnitArrays]
SIZES = np.array([8] * 4 + [4] * 4 + [8] * 4 + [6] * 8 + [6] * 4 + [7] * 4 + [9] * 4 + [10] * 4 + [12] * 8 + [20] * 8)
FLOAT64_TOLERANCE = 1e-12
"""Means of a few hundred integers, in another order."""


def aea(units: Units, title: str = "", samples: int | None = None) -> bytes:
    return AeaHeader.make(units.shape[1], units[..., 0].size, title, samples).data + units.tobytes()


@pytest.mark.parametrize("missing", [0, 100])
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("block", [1, 2, 3, 4096])
def test_facts_are_those_of_the_encoder_without_damaged_units(
    block: int, damaged: bool, missing: int, golden: Golden
) -> None:
    units, fields = golden
    frames, channels = units.shape[:2]
    good = np.arange(frames * channels).reshape(frames, channels) % 5 > (0 if damaged else -1)
    data = aea(np.where(good[..., None], units, np.uint8(0x55)), "Étude")
    data = data[: len(data) - missing]
    good[-1, -1] &= not missing
    info = read_info(io.BytesIO(data), block)
    assert (info.title, info.channels, info.frames) == ("Étude", channels, frames)
    assert (info.header_unit_count, info.samples, info.duration) == (frames * channels, None, frames * 512 / 44_100)
    assert [[damage.frame, damage.channel] for damage in info.damages] == np.argwhere(~good).tolist()
    short = [float((fields.bsm[good][:, band] > 0).mean()) for band in range(3)]
    assert info.short_share == pytest.approx(short, rel=FLOAT64_TOLERANCE)
    amounts, counts = np.unique(fields.n_bfu[good], return_counts=True)
    assert info.n_bfu_counts == dict(zip(amounts.tolist(), counts.tolist()))
    bits = (np.where(fields.idwl > 0, fields.idwl + 1, 0) * SIZES).sum(-1)
    assert info.mean_value_bits == pytest.approx(float(bits[good].mean()), rel=FLOAT64_TOLERANCE)


def test_facts_by_hand(all_golden: dict[str, Golden]) -> None:
    # The encoder takes the start of any file for a transient, so the first of two silent frames is short, and
    # its units have 1212 bits of values; those of the second have 2 x 6 values of 16 bits.
    assert read_info(io.BytesIO(aea(all_golden["silence_stereo"][0], "silence", samples=1000))) == AeaInfo(
        title="silence",
        channels=2,
        frames=2,
        header_unit_count=4,
        samples=1000,
        duration=1000 / 44_100,
        short_share=(0.5, 0.5, 0.5),
        n_bfu_counts={20: 2, 44: 2},
        mean_value_bits=(1212 + 192) / 2,
        damages=(),
    )


def test_files_of_no_frames_and_of_nothing_but_damage_have_facts(stereo: Units) -> None:
    empty = AeaInfo("nothing", 2, 0, 99, None, 0.0, (0.0, 0.0, 0.0), {}, 0.0, ())
    assert read_info(io.BytesIO(AeaHeader.make(2, 99, "nothing").data)) == empty
    info = read_info(io.BytesIO(aea(np.full_like(stereo, 0xFF))))
    assert len(info.damages) == 18
    assert (info.short_share, info.n_bfu_counts, info.mean_value_bits) == ((0.0, 0.0, 0.0), {}, 0.0)


def test_blocks_of_no_frames_are_refused(stereo: Units) -> None:
    with pytest.raises(ValueError, match="block = 0, allowed from 1 on"):
        read_info(io.BytesIO(aea(stereo)), block=0)
