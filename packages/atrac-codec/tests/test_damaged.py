"""Damaged AEA files: damage stays where it is, and the commands report, replace or repair it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from atrac_bitstream import SILENT_UNIT, AeaReader, find_damage
from atrac_codec import build_decoder, from_units
from atrac_codec.cli import main

OVERLAP: Final = 4 * 32 + 4 * 23 + 2 * 23
"""Samples at the start of a frame that depend on the frame before.

The MDCT overlaps by 32 samples of each band, of which the low and the mid band have one for 4 samples of PCM. The
first level of the inverse QMF remembers 23 more samples of theirs, the second 23 of half the rate. The high band, at
half the rate, depends on less: 2 * (32 + 23), and 2 * 39 for its delay.
"""


@pytest.fixture(scope="module")
def good(aea) -> NDArray[np.uint8]:
    """Sound units [8, 2, 212]."""
    return AeaReader(io.BytesIO(aea(512 * 8 - 266))).read()


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["standard", "bitexact"])
def test_damage_disturbs_its_frame_and_the_overlap_alone(decoder: str, good):
    rng = np.random.default_rng(0)
    decode, units = build_decoder(decoder), np.tile(good, (200, 1, 1, 1))
    damaged = rng.random(units.shape[:-1]) < 0.3
    rate = rng.choice([0.002, 0.1], damaged.shape)[..., None]
    noise = rng.integers(0, 256, units.shape, np.uint8) * (rng.random(units.shape) < rate)
    units ^= noise * damaged[..., None]
    unreadable = list(find_damage(units))
    assert 100 < len(unreadable) < damaged.sum() - 100
    for place in unreadable:
        units[place] = SILENT_UNIT
    whole, got = (decode(from_units(u).map(lambda f: f.transpose(1, 2))).numpy() for u in (good[None], units))
    assert np.isfinite(got).all()
    same = (units == good).all(-1).swapaxes(1, 2)
    equal = (got == whole).reshape(*same.shape, 512)
    before = np.concatenate([np.ones_like(same[..., :1]), same[..., :-1]], -1)
    assert equal[same & before].all()
    assert equal[same & ~before][:, OVERLAP:].all()


@torch.no_grad()
def test_a_frame_depends_on_just_so_many_samples_of_the_one_before(good):
    decoder = build_decoder().double()
    batch = from_units(good).map(lambda f: f.transpose(0, 1).double())
    spectrum = decoder.dequantizer(batch.quantized, batch.idsf, batch.idwl, batch.bsm)
    for frame in range(3):
        other = spectrum.clone()
        other[:, frame] += torch.randn(512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        a, b = (decoder.iqmf(decoder.imdct(s, batch.bsm)) for s in (spectrum, other))
        where = (a != b).any(0).nonzero()[:, 0]
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
