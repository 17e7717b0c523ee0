"""Damaged AEA files: they decode or are refused, and damage stays where it is."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from atrac_bitstream import (
    SILENT_UNIT,
    AeaReader,
    AtracError,
    Damage,
    SilenceDamage,
    SoundUnit,
    SoundUnitError,
)
from atrac_codec import build_decoder, from_units
from atrac_codec.cli import main

OVERLAP: Final = 4 * 32 + 4 * 23 + 2 * 23
"""Samples at the start of a frame that depend on the frame before.

The MDCT overlaps by 32 samples of each band, of which the low and the mid band have one for 4 samples of PCM. The
first level of the inverse QMF remembers 23 more samples of theirs, the second 23 of half the rate. The high band, at
half the rate, depends on less: 2 * (32 + 23), and 2 * 39 for its delay.
"""
Units = NDArray[np.uint8]


@pytest.fixture(scope="module")
def files(aea) -> list[bytes]:
    """Good files of 6 to 8 frames, mono and stereo."""
    return [aea(512 * (6 + k % 3) - 266, 1 + k % 2, k) for k in range(12)]


def units_of(data: bytes, channels: int) -> Units:
    """Return a file's sound units, the last frame filled up with zeros: [F, C, 212]."""
    body = data[2048:]
    size = 212 * channels
    return np.frombuffer(body + bytes(-len(body) % size), np.uint8).reshape(-1, channels, 212)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file: cut it, or flip, insert, delete or overwrite some bits or bytes, once or a few times."""
    new = bytearray(data)
    header = rng.random() < 0.1
    for _ in range(rng.integers(1, 4)):
        at = min(int(rng.integers(2048) if header else rng.integers(2048, len(data))), len(new))
        run = int(min(rng.geometric(0.01), 600))
        kind = rng.choice(["cut", "flip", "insert", "delete", "random", "same"], p=[0.1, 0.4, 0.05, 0.05, 0.2, 0.2])
        if kind == "cut":
            del new[at:]
        elif kind == "flip":
            for place in rng.integers(at, at + run, rng.integers(1, 9)):
                if place < len(new):
                    new[place] ^= 1 << rng.integers(8)
        elif kind == "insert":
            new[at:at] = rng.bytes(run)
        elif kind == "delete":
            del new[at : at + run]
        else:
            run = min(run, len(new) - at)
            new[at : at + run] = rng.bytes(run) if kind == "random" else bytes([rng.choice([0, 0xFF, 0xAC])]) * run
    return bytes(new)


def readable(unit: Units) -> bool:
    try:
        SoundUnit.unpack(unit.tobytes())
    except SoundUnitError:
        return False
    return True


def check_mended(data: bytes, units: Units, damages: list[Damage]) -> None:
    """Check that what was read is what is in the file, but for silence in the place of every damaged unit."""
    there = units_of(data, units.shape[1])
    assert there.shape == units.shape
    left = len(data) - 2048
    places = {(damage.frame, damage.channel) for damage in damages}
    for frame, channel in np.ndindex(*units.shape[:2]):
        whole = 212 * (frame * units.shape[1] + channel + 1) <= left
        if (frame, channel) in places:
            assert units[frame, channel].tobytes() == SILENT_UNIT.tobytes()
            assert not whole or not readable(there[frame, channel])
        else:
            assert whole
            assert units[frame, channel].tobytes() == there[frame, channel].tobytes()


def check_damage_stays(got: NDArray, good: NDArray, units: Units, good_units: Units) -> Counter[str]:
    """Check that each sound unit that is as in the good file has its samples, but for the overlap.

    Shape: got, good [*, C, 512 F], units, good_units [*, F, C, 212]
    """
    same = np.moveaxis((units == good_units).all(-1), -1, -2)
    equal = (got == good).reshape(*same.shape, 512)
    before = np.concatenate([np.ones_like(same[..., :1]), same[..., :-1]], -1)
    assert equal[same & before].all()
    assert equal[same & ~before][:, OVERLAP:].all()
    return Counter(whole=int((same & before).sum()), neighbours=int((same & ~before).sum()), other=int((~same).sum()))


@torch.no_grad()
@pytest.mark.parametrize(
    ("decoder", "number"),
    [("standard", 1500), pytest.param("standard", 8500, marks=pytest.mark.slow), ("bitexact", 1500)],
)
def test_damaged_files_are_refused_or_keep_what_is_good(decoder: str, number: int, files: list[bytes]):
    rng = np.random.default_rng(number)
    decode = build_decoder(decoder)
    most = 9
    found: Counter[str] = Counter()
    batches: dict[int, list[tuple[Units, Units]]] = {1: [], 2: []}

    def filled(units: Units) -> Units:
        """Fill up with silence to the same number of frames, so that equal samples are summed in equal order."""
        missing = np.tile(SILENT_UNIT, (max(0, most - len(units)), units.shape[1], 1))
        return np.concatenate([units[:most], missing])

    def check_batch(channels: int) -> None:
        pairs, batches[channels] = batches[channels], []
        if not pairs:
            return
        units, good_units = (np.stack(side) for side in zip(*pairs, strict=True))
        got, good = (decode(from_units(u).map(lambda f: f.transpose(1, 2))).numpy() for u in (units, good_units))
        assert np.isfinite(got).all()
        found.update(check_damage_stays(got, good, units, good_units))

    for k in range(number):
        whole = files[k % len(files)]
        data = damaged(whole, rng)
        try:
            with AeaReader(io.BytesIO(data), SilenceDamage()) as reader:
                units = reader.read()
        except AtracError:
            found["refused"] += 1
            continue
        found["damaged"] += bool(reader.damages)
        if k < 300:  # unit by unit, which takes its time
            check_mended(data, units, reader.damages)
        # With another number of channels in the header the file holds other frames, nothing to compare with.
        good_units = units_of(whole, whole[264]) if reader.channels == whole[264] else units
        batches[reader.channels].append((filled(units), filled(good_units)))
        if len(batches[reader.channels]) == 250:
            check_batch(reader.channels)
    for channels in batches:
        check_batch(channels)
    assert found["refused"] > 20, found
    assert found["damaged"] > 300, found
    assert min(found["whole"], found["neighbours"], found["other"]) > 1000, found


@torch.no_grad()
def test_a_frame_depends_on_just_so_many_samples_of_the_one_before(files: list[bytes]):
    decoder = build_decoder().double()
    batch = from_units(units_of(files[1], 2)).map(lambda f: f.transpose(0, 1).double())
    spectrum = decoder.dequantizer(batch.quantized, batch.idsf, batch.idwl, batch.bsm)

    def depends(changed: int) -> NDArray:
        other = spectrum.clone()
        other[:, changed] += torch.randn(512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        a, b = (decoder.iqmf(decoder.imdct(s, batch.bsm)) for s in (spectrum, other))
        return (a != b).any(0).nonzero()[:, 0].numpy()

    for frame in range(3):
        where = depends(frame)
        assert where[0] >= 512 * frame
        assert where[-1] == 512 * (frame + 1) + OVERLAP - 1


@pytest.mark.parametrize("channels", [1, 2])
def test_commands_repair_and_decode_raw_and_damaged_files(channels: int, aea, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    good = aea(20_000, channels)
    place = 2048 + 212 * channels * 11
    bad = good[:place] + b"\xff" * 212 + good[place + 212 : -50]
    Path("good.aea").write_bytes(good)
    Path("bad.aea").write_bytes(bad)
    Path("bad.raw").write_bytes(bad[2048:])
    last = f"frame 39, channel {channels - 1}: the file ends after 162 of 212 bytes"
    what = rf"2 (frame 11, channel 0: bsm[0] = -1, allowed 0 (long) and 2 (short); {last})"

    def run(*command: str) -> tuple[str, bytes]:
        assert main([*command, "--force"]) == 0
        return capsys.readouterr().err.strip(), Path(command[-1]).read_bytes()

    assert main(["decode", "bad.aea", "-o", "x.wav"]) == 1
    assert "error: bad.aea: frame 11, channel 0: bsm[0] = -1, allowed 0" in capsys.readouterr().err
    for policy in ("silence", "repeat"):
        use = "--damage", policy
        message, wanted = run("decode", "bad.aea", *use, "-o", "x.wav")
        assert message == f"warning: bad.aea: damaged sound units: {what}"
        message, _ = run("repair", "bad.aea", *use, "-o", "repaired.aea")
        assert message == f"bad.aea: 40 frames, sound units replaced: {what}"
        assert run("decode", "repaired.aea", "-o", "x.wav") == ("", wanted)

        run("decode", "bad.aea", *use, "--keep-delay", "-o", "all.wav")
        raw = "--raw", str(channels)
        message, from_raw = run("decode", "bad.raw", *raw, *use, "--keep-delay", "-o", "x.wav")
        assert message == f"warning: bad.raw: damaged sound units: {what}"
        assert np.array_equal(soundfile.read("x.wav")[0], soundfile.read("all.wav")[0])
        message, _ = run("repair", "bad.raw", *raw, *use, "-o", "repaired.aea")
        assert message == f"bad.raw: 40 frames, count 0 -> {40 * channels}, sound units replaced: {what}"
        assert run("decode", "repaired.aea", "--keep-delay", "-o", "x.wav") == ("", from_raw)
    assert Path("bad.aea").read_bytes() == bad
    assert main(["info", "bad.raw", "--raw", str(channels)]) == 1
    assert main(["info", "repaired.aea"]) == 0
