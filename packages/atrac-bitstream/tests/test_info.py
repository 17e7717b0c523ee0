"""What a file holds, by function and by command line."""

import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream import (
    AeaError,
    AeaHeader,
    AeaInfo,
    AeaWriter,
    Damage,
    SoundUnitError,
    TruncatedError,
    UnitArrays,
    read_info,
)
from atrac_bitstream.__main__ import main

Golden = tuple[NDArray[np.uint8], UnitArrays]
SIZES = np.array([8] * 4 + [4] * 4 + [8] * 4 + [6] * 8 + [6] * 4 + [7] * 4 + [9] * 4 + [10] * 4 + [12] * 8 + [20] * 8)
FLOAT64_TOLERANCE = 1e-12
"""Means of a few hundred integers, in another order."""


def aea(units: NDArray[np.uint8], title: str = "", samples: int | None = None) -> io.BytesIO:
    file = io.BytesIO()
    with AeaWriter(file, units.shape[1], title) as writer:
        writer.write(units)
        writer.samples = samples
    return io.BytesIO(file.getvalue())


def assert_statistics(info: AeaInfo, fields: UnitArrays, good: NDArray[np.bool_]) -> None:
    """Compare with what the encoder wrote into the good units [F, C]."""
    short = [float((fields.bsm[good][:, band] > 0).mean()) for band in range(3)]
    assert info.short_share == pytest.approx(short, rel=FLOAT64_TOLERANCE)
    amounts, counts = np.unique(fields.n_bfu[good], return_counts=True)
    assert info.n_bfu_counts == dict(zip(amounts.tolist(), counts.tolist()))
    bits = (np.where(fields.idwl > 0, fields.idwl + 1, 0) * SIZES).sum(-1)
    assert info.mean_value_bits == pytest.approx(float(bits[good].mean()), rel=FLOAT64_TOLERANCE)


def test_facts_of_a_golden_file(golden: Golden) -> None:
    units, fields = golden
    info = read_info(aea(units, "Étude"))
    frames, channels = units.shape[:2]
    assert (info.title, info.channels, info.frames) == ("Étude", channels, frames)
    assert info.header_unit_count == frames * channels
    assert info.samples is None
    assert info.duration == frames * 512 / 44_100
    assert info.damages == ()
    assert_statistics(info, fields, np.ones((frames, channels), bool))


def test_facts_by_hand(all_golden: dict[str, Golden]) -> None:
    # The encoder takes the start of any file for a transient, so the first of two silent frames is short, and
    # its units have 1212 bits of values; those of the second have 2 x 6 values of 16 bits.
    info = read_info(aea(all_golden["silence_stereo"][0], "silence", samples=1000))
    assert info == AeaInfo(
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


def test_block_size_changes_nothing(stereo: NDArray[np.uint8]) -> None:
    facts = [read_info(aea(stereo), block) for block in (1, 2, 4, 9, 4096)]
    assert facts.count(facts[0]) == 5


def test_a_file_of_no_frames_has_facts() -> None:
    info = read_info(io.BytesIO(AeaHeader.make(2, 99, "nothing").data))
    assert info == AeaInfo("nothing", 2, 0, 99, None, 0.0, (0.0, 0.0, 0.0), {}, 0.0, ())


def test_length_is_that_of_the_file_whatever_the_header_counts(stereo: NDArray[np.uint8]) -> None:
    info = read_info(io.BytesIO(AeaHeader.make(2, 5).data + stereo.tobytes()))
    assert (info.frames, info.header_unit_count) == (9, 5)


def test_facts_are_read_from_a_path(tmp_path: Path, stereo: NDArray[np.uint8]) -> None:
    path = tmp_path / "golden.aea"
    path.write_bytes(aea(stereo).getvalue())
    assert read_info(path) == read_info(str(path)) == read_info(aea(stereo))


@pytest.mark.parametrize("block", [1, 2, 3, 4096])
def test_damaged_units_are_listed_by_frame_and_channel_of_the_file(block: int, stereo: NDArray[np.uint8]) -> None:
    damaged = stereo.copy()
    damaged[7, 1, 0] = 0x40
    damaged[2, 0, 0] = damaged[2, 1, 0] = 0x04
    info = read_info(aea(damaged), block)
    assert info.damages == (
        Damage(2, 0, "bsm[2] = 2, allowed 0 (long) and 3 (short)"),
        Damage(2, 1, "bsm[2] = 2, allowed 0 (long) and 3 (short)"),
        Damage(7, 1, "bsm[0] = 1, allowed 0 (long) and 2 (short)"),
    )
    assert (info.frames, info.header_unit_count, info.duration) == (9, 18, 9 * 512 / 44_100)


@pytest.mark.parametrize("block", [1, 2, 3, 4096])
def test_statistics_leave_damaged_units_out(block: int, golden: Golden) -> None:
    units, fields = golden
    good = np.arange(units[..., 0].size).reshape(units.shape[:2]) % 5 > 0  # in stereo left and right take turns
    info = read_info(aea(np.where(good[..., None], units, np.uint8(0x55))), block)
    assert [[damage.frame, damage.channel] for damage in info.damages] == np.argwhere(~good).tolist()
    assert_statistics(info, fields, good)


def test_a_file_of_nothing_but_damage_has_no_statistics(stereo: NDArray[np.uint8]) -> None:
    info = read_info(aea(np.full_like(stereo, 0xFF)))
    assert len(info.damages) == 18
    assert (info.short_share, info.n_bfu_counts, info.mean_value_bits) == ((0.0, 0.0, 0.0), {}, 0.0)


@pytest.mark.parametrize("block", [1, 2, 3, 4096])
@pytest.mark.parametrize(
    ("missing", "there"), [(1, [211]), (24, [188]), (212, [0]), (213, [211, 0]), (423, [1, 0])], ids=str
)
def test_units_that_a_file_cuts_off_are_listed(
    missing: int, there: list[int], block: int, all_golden: dict[str, Golden]
) -> None:
    units, fields = all_golden["clicks_stereo"]
    info = read_info(io.BytesIO(aea(units).getvalue()[:-missing]), block)
    reasons = [f"the file ends after {n} of 212 bytes" for n in there]
    assert info.damages == tuple(
        Damage(8, channel, reason, cut=True) for channel, reason in zip(range(2 - len(there), 2), reasons)
    )
    assert (info.frames, info.header_unit_count, info.duration) == (9, 18, 9 * 512 / 44_100)
    good = np.ones((9, 2), bool)
    good[8, 2 - len(there) :] = False
    assert_statistics(info, fields, good)


# Command line -------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, stereo: NDArray[np.uint8]) -> dict[str, str]:
    """Paths of a good file, of damaged ones, of one without a header, of what is no AEA file, and of none."""
    good = aea(stereo, "クラシック", 4321).getvalue()
    damaged = bytearray(good)
    damaged[2048 + 424 * 3] = 0x40
    contents = {
        "good": good,
        "short": good[:-1],
        "damaged": bytes(damaged),
        "raw": good[2048:],
        "foreign": b"RIFF" + bytes(3000),
        "empty": b"",
    }
    for name, data in contents.items():
        (tmp_path / f"{name}.aea").write_bytes(data)
    (tmp_path / "folder.aea").mkdir()
    return {name: str(tmp_path / f"{name}.aea") for name in (*contents, "folder", "missing")}


def test_info_prints_every_fact(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", files["good"]]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == files["good"]
    facts = {**vars(read_info(files["good"])), "damages": 0}
    assert lines[1:] == [f"  {name.replace('_', ' '):18} {value}" for name, value in facts.items()]
    assert "  title              クラシック" in lines
    assert "  channels           2" in lines
    assert "  header unit count  18" in lines
    assert "  samples            4321" in lines
    assert lines[-1] == "  damages            0"


def test_json_gives_one_object_per_file_and_line(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", files["good"], files["good"]]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    one, two = map(json.loads, out.splitlines())
    assert one == two
    facts: dict[str, Any] = {"file": files["good"], **asdict(read_info(files["good"]))}
    facts["short_share"] = list(facts["short_share"])
    facts["n_bfu_counts"] = {str(n): count for n, count in facts["n_bfu_counts"].items()}
    facts["damages"] = []
    assert one == facts


DAMAGES = {
    "short": Damage(8, 1, "the file ends after 211 of 212 bytes", cut=True),
    "damaged": Damage(3, 0, "bsm[0] = 1, allowed 0 (long) and 2 (short)"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_file_is_exit_code_1_and_described(
    kind: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", files[kind]]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    facts = {**vars(read_info(files[kind])), "damages": f"1 ({DAMAGES[kind]})"}
    assert lines == [files[kind], *(f"  {name.replace('_', ' '):18} {value}" for name, value in facts.items())]


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_in_the_json(kind: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", files[kind], files["good"]]) == 1  # the good one after it does not make it 0
    out, err = capsys.readouterr()
    assert err == ""
    one, two = map(json.loads, out.splitlines())
    assert one["damages"] == [asdict(DAMAGES[kind])]
    assert two["damages"] == []


def test_file_without_a_header_is_described_when_asked(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--json", "--raw", "2", files["raw"]]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert main(["info", "--json", files["good"]]) == 0
    expected = json.loads(capsys.readouterr().out)
    changed = {"file": files["raw"], "title": "", "header_unit_count": 0, "samples": None}
    assert facts == {**expected, **changed, "duration": 9 * 512 / 44_100}
    assert main(["info", "--json", "--raw", "1", files["raw"]]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["channels"], facts["frames"]) == (1, 18)
    assert main(["info", files["raw"]]) == 1
    assert "an AEA file with 00 08 00 00" in capsys.readouterr().err


MESSAGES = {
    "foreign": "the file begins with 52 49 46 46, an AEA file with 00 08 00 00",
    "empty": "the file ends after 0 bytes, a header has 2048",
    "folder": "Is a directory",
    "missing": "No such file or directory",
}


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_bad_file_is_exit_code_1_and_a_message_on_stderr(
    kind: str, options: list[str], files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", *options, files[kind]]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{files[kind]}: ")
    assert MESSAGES[kind] in err
    assert err.count("\n") == 1


def test_good_files_beside_a_bad_one_are_described(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", files["good"], files["foreign"], files["good"]]) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["file"] for line in out.splitlines()] == [files["good"]] * 2
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["info"],
        ["encode"],
        ["info", "--yaml", "x.aea"],
        ["info", "--raw", "x.aea"],
        ["info", "--raw", "3", "x.aea"],
    ],
    ids=str,
)
def test_wrong_command_line_is_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: python -m atrac_bitstream" in capsys.readouterr().err


def run_module(*argv: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "atrac_bitstream", *argv],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )


def test_module_runs_as_a_command_without_traceback(files: dict[str, str]) -> None:
    result = run_module("info", files["good"], files["foreign"])
    assert result.returncode == 1
    assert "クラシック" in result.stdout
    assert result.stderr == f"{files['foreign']}: {MESSAGES['foreign']}\n"


def test_title_that_the_terminal_cannot_show_is_no_traceback(files: dict[str, str]) -> None:
    result = run_module("info", files["good"], encoding="ascii")
    assert "Traceback" not in result.stderr
    assert result.returncode == 0


def test_errors_have_one_root() -> None:
    assert issubclass(TruncatedError, AeaError)
    assert not issubclass(SoundUnitError, AeaError)


def test_blocks_of_no_frames_are_refused(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="block = 0, allowed from 1 on"):
        read_info(files["good"], block=0)
