"""Repaired files: every unit readable, whole frames, a true count, and not a bit else changed."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import (
    AeaError,
    AeaHeader,
    Damage,
    RaiseDamage,
    RepairReport,
    RepeatDamage,
    SilenceDamage,
    SoundUnit,
    SoundUnitError,
    TruncatedError,
    UnitArrays,
    read_info,
    repair_file,
)
from atrac_bitstream.__main__ import main

Units = NDArray[np.uint8]
Golden = tuple[Units, UnitArrays]
Mend = Callable[[bytes, int, bool], tuple[bytes, list[Damage]]]

BAD_MODE = b"\x40" + bytes(211)
MODE_REASON = "bsm[0] = 1, allowed 0 (long) and 2 (short)"
SILENT = b"\xac" + bytes(211)
COUNT = slice(260, 264)


def with_damage(data: bytes, *units: int) -> bytes:
    """Put an invalid block size mode into some sound units of a file, counted from 0 whatever their channel."""
    damaged = bytearray(data)
    for unit in units:
        damaged[2048 + 212 * unit : 2048 + 212 * unit + 212] = BAD_MODE
    return bytes(damaged)


def repaired(data: bytes, damage: Any = None, **options: Any) -> tuple[bytes, RepairReport]:
    target = io.BytesIO()
    report = repair_file(io.BytesIO(data), target, damage or SilenceDamage(), **options)
    return target.getvalue(), report


# What stays ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(data=st.data(), channels=st.sampled_from((1, 2)), seed=st.integers(0, 2**32))
def test_good_file_with_a_true_count_stays_byte_for_byte(
    data: st.DataObject, channels: int, seed: int, legal_units: st.SearchStrategy[SoundUnit]
) -> None:
    # Any bytes in the header, reserved bits and tails in the units: what nobody knows the meaning of is kept.
    units = data.draw(st.lists(st.tuples(*[legal_units] * channels), max_size=3))
    header = bytearray(np.random.default_rng(seed).bytes(2048))
    header[:4], header[264] = b"\x00\x08\x00\x00", channels
    header[COUNT] = (len(units) * channels).to_bytes(4, "little")
    file = bytes(header) + b"".join(unit.pack() for frame in units for unit in frame)
    for policy in (SilenceDamage(), RepeatDamage(), RaiseDamage()):
        copy, report = repaired(file, policy, block=2)
        assert copy == file
        assert report == RepairReport(len(units), len(units) * channels, len(units) * channels, ())


def test_golden_units_with_mirrored_tails_and_reserved_bits_stay(golden: Golden) -> None:
    units = golden[0].copy()
    units[..., 0] |= 0b11
    units[..., 1] |= 0b11111
    units[..., 210:] = units[..., 1::-1]
    file = AeaHeader.make(units.shape[1], units[..., 0].size, "mirrored", 3000).data + units.tobytes()
    assert repaired(file)[0] == file


@pytest.mark.parametrize("count", [0, 1, 17, 19, 2**32 - 1])
def test_of_a_wrong_count_only_its_four_bytes_change(count: int, aea_bytes: bytes, stereo: Units) -> None:
    file = bytearray(np.random.default_rng(count).bytes(2048))
    file[:4], file[264], file[COUNT] = b"\x00\x08\x00\x00", 2, count.to_bytes(4, "little")
    file += stereo.tobytes()
    copy, report = repaired(bytes(file))
    assert copy[COUNT] == (18).to_bytes(4, "little")
    assert copy[:260] + copy[264:] == file[:260] + file[264:]
    assert report == RepairReport(9, count, 18, ())


# What is replaced ---------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 3, 4096])
def test_damaged_units_are_replaced_and_all_else_stays(block: int, aea_bytes: bytes, stereo: Units) -> None:
    file = with_damage(aea_bytes, 7, 8, 9)
    damages = (Damage(3, 1, MODE_REASON), Damage(4, 0, MODE_REASON), Damage(4, 1, MODE_REASON))
    for policy, put in [
        (SilenceDamage(), [SILENT, SILENT, SILENT]),
        (RepeatDamage(), [stereo[2, 1].tobytes(), stereo[3, 0].tobytes(), stereo[2, 1].tobytes()]),
    ]:
        copy, report = repaired(file, policy, block=block)
        place = 2048 + 7 * 212
        assert copy == file[:place] + b"".join(put) + file[place + 3 * 212 :]
        assert report == RepairReport(9, 18, 18, damages)


@pytest.mark.parametrize("block", [1, 2, 3, 4096])
@pytest.mark.parametrize(
    ("missing", "there"), [(1, [211]), (211, [1]), (212, [0]), (213, [211, 0]), (423, [1, 0])], ids=str
)
def test_cut_file_gets_whole_frames(missing: int, there: list[int], block: int, aea_bytes: bytes) -> None:
    copy, report = repaired(aea_bytes[:-missing], block=block)
    kept = len(aea_bytes) - 212 * len(there)
    assert copy == aea_bytes[:kept] + SILENT * len(there)
    channels = range(2 - len(there), 2)
    assert report.damages == tuple(
        Damage(8, channel, f"the file ends after {n} of 212 bytes", cut=True) for channel, n in zip(channels, there)
    )


def test_file_of_which_whole_frames_are_missing_gets_a_smaller_count(aea_bytes: bytes) -> None:
    copy, report = repaired(aea_bytes[: -2 * 424])
    assert copy == AeaHeader(aea_bytes).with_unit_count(14).data + aea_bytes[2048 : -2 * 424]
    assert report == RepairReport(7, 18, 14, ())


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_units_without_a_header_get_one(channels: int, aea_bytes: bytes) -> None:
    header = AeaHeader.make(channels, title="from elsewhere", samples=99)
    raw = aea_bytes[2048:]
    copy, report = repaired(raw, header=header)
    assert copy == AeaHeader.make(channels, 18, "from elsewhere", 99).data + raw
    assert report == RepairReport(18 // channels, 0, 18, ())
    copy, report = repaired(with_damage(aea_bytes, 2)[2048:-212], header=header)
    ends = SILENT if channels == 2 else b""
    assert copy[2048:] == raw[: 2 * 212] + SILENT + raw[3 * 212 : -212] + ends
    assert report.unit_count == (18 if channels == 2 else 17)


@pytest.mark.parametrize("policy", [SilenceDamage(), RepeatDamage()], ids=["silence", "repeat"])
@pytest.mark.parametrize("channels", [1, 2])
def test_repaired_file_is_without_damage_and_repairing_it_again_changes_nothing(
    channels: int, policy: Any, aea_bytes: bytes, mend_one_by_one: Mend
) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(50):
        count = int(rng.integers(100))
        data = with_damage(
            AeaHeader.make(channels, count).data + aea_bytes[2048:], *rng.integers(0, 18, rng.integers(6)).tolist()
        )
        data = data[: len(data) - int(rng.integers(1000))]
        copy, report = repaired(data, policy, block=int(rng.integers(1, 10)))
        mended, damages = mend_one_by_one(data[2048:], channels, isinstance(policy, RepeatDamage))
        assert copy[2048:] == mended
        assert report == RepairReport(len(mended) // 212 // channels, count, len(mended) // 212, tuple(damages))
        info = read_info(io.BytesIO(copy))
        assert info.damages == ()
        assert info.header_unit_count == info.frames * channels == report.unit_count
        again, second = repaired(copy, policy)
        assert again == copy
        assert second.damages == ()


def test_raise_refuses_the_repair_and_writes_nothing(aea_bytes: bytes, place: Path) -> None:
    with pytest.raises(SoundUnitError, match=r"^frame 3, channel 1: bsm\[0\] = 1"):
        repair_file(io.BytesIO(with_damage(aea_bytes, 7)), place / "out.aea", RaiseDamage())
    with pytest.raises(TruncatedError, match=r"^frame 8, channel 1: the file ends"):
        repair_file(io.BytesIO(aea_bytes[:-1]), place / "out.aea", RaiseDamage())
    assert list(place.iterdir()) == []


# Sources and targets ------------------------------------------------------------------------------


@pytest.mark.parametrize("source_kind", ["path", "text path", "file", "trickle"])
@pytest.mark.parametrize("target_kind", ["path", "text path", "file"])
def test_any_source_and_target_will_do(
    source_kind: str,
    target_kind: str,
    place: Path,
    temporary: Path,
    aea_bytes: bytes,
    trickle: Callable[[bytes, int], BinaryIO],
) -> None:
    data = with_damage(aea_bytes, 5)
    path, out, file = place / "in.aea", place / "out.aea", io.BytesIO()
    path.write_bytes(data)
    sources: dict[str, Any] = {
        "path": path,
        "text path": str(path),
        "file": io.BytesIO(data),
        "trickle": trickle(data, 99),
    }
    targets: dict[str, Any] = {"path": out, "text path": str(out), "file": file}
    repair_file(sources[source_kind], targets[target_kind], SilenceDamage())
    assert (file.getvalue() if target_kind == "file" else out.read_bytes()) == repaired(data)[0]
    assert path.read_bytes() == data
    assert not file.closed
    assert list(temporary.iterdir()) == []


def test_a_file_may_be_repaired_in_its_place(place: Path, aea_bytes: bytes) -> None:
    path = place / "file.aea"
    path.write_bytes(with_damage(aea_bytes, 5)[:-3])
    expected = repaired(path.read_bytes())
    assert repair_file(path, path, SilenceDamage(), block=2) == expected[1]
    assert path.read_bytes() == expected[0]
    assert list(place.iterdir()) == [path]


def test_existing_target_is_replaced_on_success_only(place: Path, aea_bytes: bytes) -> None:
    path = place / "out.aea"
    path.write_bytes(b"old")
    for source in (b"RIFF" + bytes(3000), aea_bytes[:2000]):
        with pytest.raises(AeaError):
            repair_file(io.BytesIO(source), path, SilenceDamage())
        assert path.read_bytes() == b"old"
    repair_file(io.BytesIO(aea_bytes), path, SilenceDamage())
    assert path.read_bytes() == aea_bytes
    assert list(place.iterdir()) == [path]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("in_place", [False, True])
def test_target_that_fails_leaves_the_old_file(
    function: str, in_place: bool, place: Path, aea_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "file.aea"
    path.write_bytes(old := with_damage(aea_bytes, 5))

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="the disk is broken"):
        repair_file(path if in_place else io.BytesIO(old), path, SilenceDamage())
    assert path.read_bytes() == old
    assert list(place.iterdir()) == [path]


def test_missing_files_and_folders_are_os_errors(place: Path, aea_bytes: bytes) -> None:
    with pytest.raises(FileNotFoundError):
        repair_file(place / "none.aea", place / "out.aea", SilenceDamage())
    with pytest.raises(FileNotFoundError):
        repair_file(io.BytesIO(aea_bytes), place / "none" / "out.aea", SilenceDamage())
    with pytest.raises(IsADirectoryError):
        repair_file(io.BytesIO(aea_bytes), place, SilenceDamage())
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("block", [0, -1])
def test_blocks_of_no_frames_are_refused_and_the_target_is_kept(block: int, place: Path, aea_bytes: bytes) -> None:
    path = place / "file.aea"
    path.write_bytes(aea_bytes)
    with pytest.raises(ValueError, match=f"block = {block}, allowed from 1 on"):
        repair_file(path, path, SilenceDamage(), block=block)
    assert path.read_bytes() == aea_bytes


# Report -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (RepairReport(9, 18, 18, ()), "9 frames, sound units replaced: 0"),
        (RepairReport(9, 5, 18, ()), "9 frames, count 5 -> 18, sound units replaced: 0"),
        (
            RepairReport(9, 0, 9, (Damage(3, 0, "bad"), Damage(8, 0, "short", cut=True))),
            "9 frames, count 0 -> 9, sound units replaced: 2 (frame 3, channel 0: bad; frame 8, channel 0: short)",
        ),
    ],
    ids=str,
)
def test_report_says_what_was_done(report: RepairReport, text: str) -> None:
    assert str(report) == text


# Command line -------------------------------------------------------------------------------------


@pytest.fixture
def damaged(place: Path, aea_bytes: bytes) -> Path:
    """A file with a damaged unit, a wrong count and a cut end."""
    path = place / "in.aea"
    path.write_bytes(with_damage(AeaHeader.make(2, 5, "クラシック").data + aea_bytes[2048:-1], 7))
    return path


def test_command_repairs_and_reports(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, before = damaged.parent / "out.aea", damaged.read_bytes()
    assert main(["repair", str(damaged), str(out)]) == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert printed == (
        f"9 frames, count 5 -> 18, sound units replaced: 2 (frame 3, channel 1: {MODE_REASON}; "
        "frame 8, channel 1: the file ends after 211 of 212 bytes)\n"
    )
    assert out.read_bytes() == repaired(before)[0]
    assert damaged.read_bytes() == before
    assert main(["info", str(damaged)]) == 1
    assert main(["info", str(out)]) == 0


@pytest.mark.parametrize("options", [[], ["--damage", "silence"]], ids=str)
def test_command_puts_silence_unless_told_otherwise(options: list[str], damaged: Path) -> None:
    out = damaged.parent / "out.aea"
    assert main(["repair", *options, str(damaged), str(out)]) == 0
    assert out.read_bytes()[2048 + 7 * 212 :][:212] == SILENT


def test_command_repeats_when_told(damaged: Path, stereo: Units) -> None:
    out = damaged.parent / "out.aea"
    assert main(["repair", "--damage", "repeat", str(damaged), str(out)]) == 0
    assert out.read_bytes()[2048 + 7 * 212 :][:212] == stereo[2, 1].tobytes()
    assert out.read_bytes() == repaired(damaged.read_bytes(), RepeatDamage())[0]


@pytest.mark.parametrize("channels", [1, 2])
def test_command_gives_raw_sound_units_a_header(channels: int, place: Path, aea_bytes: bytes) -> None:
    (place / "in.bin").write_bytes(aea_bytes[2048:])
    assert main(["repair", "--raw", str(channels), str(place / "in.bin"), str(place / "out.aea")]) == 0
    assert (place / "out.aea").read_bytes() == AeaHeader.make(channels, 18).data + aea_bytes[2048:]


def test_command_keeps_an_existing_file_unless_forced(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, before = damaged.parent / "out.aea", damaged.read_bytes()
    out.write_bytes(b"old")
    for target, content in [(out, b"old"), (damaged, before)]:
        assert main(["repair", str(damaged), str(target)]) == 1
        printed, err = capsys.readouterr()
        assert printed == ""
        assert f"{target} exists; --force replaces it" in err
        assert err.count("\n") == 1
        assert target.read_bytes() == content
        assert main(["repair", "--force", str(damaged), str(target)]) == 0
        assert target.read_bytes() == repaired(before)[0]
        capsys.readouterr()
    assert sorted(damaged.parent.iterdir()) == [damaged, out]


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_command_fails_with_a_message_and_leaves_nothing(
    force: list[str], place: Path, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "foreign.aea").write_bytes(b"RIFF" + bytes(3000))
    (place / "short.aea").write_bytes(damaged.read_bytes()[:2047])
    (place / "folder").mkdir()
    before = sorted(place.iterdir())
    for source, target, message in [
        ("missing.aea", "out.aea", "No such file or directory"),
        ("folder", "out.aea", "Is a directory"),
        ("foreign.aea", "out.aea", "the file begins with 52 49 46 46, an AEA file with 00 08 00 00"),
        ("short.aea", "out.aea", "the file ends after 2047 bytes, a header has 2048"),
        ("in.aea", "none/out.aea", "No such file or directory"),
        ("in.aea", "folder", "Is a directory" if force else "exists; --force replaces it"),
    ]:
        assert main(["repair", *force, str(place / source), str(place / target)]) == 1
        printed, err = capsys.readouterr()
        assert printed == ""
        assert err.startswith(f"{place / source}: ")
        assert message in err
        assert err.count("\n") == 1
        assert sorted(place.iterdir()) == before
        assert list((place / "folder").iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["in.aea"],
        ["in.aea", "out.aea", "more.aea"],
        ["--damage", "raise", "in.aea", "out.aea"],
        ["--damage", "guess", "in.aea", "out.aea"],
        ["--raw", "3", "in.aea", "out.aea"],
    ],
    ids=str,
)
def test_wrong_command_line_is_exit_code_2_and_writes_nothing(
    options: list[str], damaged: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(damaged.parent)
    with pytest.raises(SystemExit) as caught:
        main(["repair", *options])
    assert caught.value.code == 2
    assert "usage: python -m atrac_bitstream " in capsys.readouterr().err
    assert list(damaged.parent.iterdir()) == [damaged]


def test_module_repairs_as_a_command_without_traceback(damaged: Path) -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "atrac_bitstream", "repair", *argv]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

    out = damaged.parent / "out.aea"
    first, second = run(str(damaged), str(out)), run(str(damaged), str(out))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("9 frames, count 5 -> 18, sound units replaced: 2 (")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == f"{damaged}: {out} exists; --force replaces it\n"
