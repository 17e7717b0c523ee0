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


def test_facts_of_a_golden_file(golden: Golden) -> None:
    units, fields = golden
    info = read_info(aea(units, "Étude"))
    frames, channels = units.shape[:2]
    assert (info.title, info.channels, info.frames) == ("Étude", channels, frames)
    assert info.header_unit_count == frames * channels
    assert info.samples is None
    assert info.duration == frames * 512 / 44_100
    short = [float((fields.bsm[..., band] > 0).mean()) for band in range(3)]
    assert info.short_share == pytest.approx(short, rel=FLOAT64_TOLERANCE)
    amounts, counts = np.unique(fields.n_bfu, return_counts=True)
    assert info.n_bfu_counts == dict(zip(amounts.tolist(), counts.tolist()))
    bits = (np.where(fields.idwl > 0, fields.idwl + 1, 0) * SIZES).sum(-1)
    assert info.mean_value_bits == pytest.approx(float(bits.mean()), rel=FLOAT64_TOLERANCE)


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
    )


def test_block_size_changes_nothing(stereo: NDArray[np.uint8]) -> None:
    facts = [read_info(aea(stereo), block) for block in (1, 2, 4, 9, 4096)]
    assert facts.count(facts[0]) == 5


def test_a_file_of_no_frames_has_facts() -> None:
    info = read_info(io.BytesIO(AeaHeader.make(2, 99, "nothing").data))
    assert info == AeaInfo("nothing", 2, 0, 99, None, 0.0, (0.0, 0.0, 0.0), {}, 0.0)


def test_length_is_that_of_the_file_whatever_the_header_counts(stereo: NDArray[np.uint8]) -> None:
    info = read_info(io.BytesIO(AeaHeader.make(2, 5).data + stereo.tobytes()))
    assert (info.frames, info.header_unit_count) == (9, 5)


def test_facts_are_read_from_a_path(tmp_path: Path, stereo: NDArray[np.uint8]) -> None:
    path = tmp_path / "golden.aea"
    path.write_bytes(aea(stereo).getvalue())
    assert read_info(path) == read_info(str(path)) == read_info(aea(stereo))


@pytest.mark.parametrize("block", [1, 2, 3, 4096])
def test_damaged_unit_is_named_by_frame_and_channel_of_the_file(block: int, stereo: NDArray[np.uint8]) -> None:
    damaged = stereo.copy()
    damaged[7, 1, 0] = 0x40
    with pytest.raises(SoundUnitError) as caught:
        read_info(aea(damaged), block)
    assert str(caught.value) == "bsm[0] = 1, allowed 0 (long) and 2 (short) (sound unit [7, 1])"


@pytest.mark.parametrize("block", [1, 2, 3, 4096])
def test_truncated_file_is_named_by_frame(block: int, stereo: NDArray[np.uint8]) -> None:
    with pytest.raises(TruncatedError, match=r"^the file ends in frame 8, after 400 of 424 bytes"):
        read_info(io.BytesIO(aea(stereo).getvalue()[:-24]), block)


# Command line -------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, stereo: NDArray[np.uint8]) -> dict[str, str]:
    """Paths of a good file, of broken ones, and of none."""
    good = aea(stereo, "クラシック", 4321).getvalue()
    contents = {"good": good, "short": good[:-1], "foreign": b"RIFF" + bytes(3000), "empty": b""}
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
    facts = asdict(read_info(files["good"]))
    assert lines[1:] == [f"  {name:18} {value}" for name, value in facts.items()]
    assert "  title              クラシック" in lines
    assert "  channels           2" in lines
    assert "  samples            4321" in lines


def test_json_gives_one_object_per_file_and_line(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", files["good"], files["good"]]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    one, two = map(json.loads, out.splitlines())
    assert one == two
    facts: dict[str, Any] = {"file": files["good"], **asdict(read_info(files["good"]))}
    facts["short_share"] = list(facts["short_share"])
    facts["n_bfu_counts"] = {str(n): count for n, count in facts["n_bfu_counts"].items()}
    assert one == facts


MESSAGES = {
    "short": "the file ends in frame 8, after 423 of 424 bytes (2 sound units of 212 bytes)",
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


@pytest.mark.parametrize("argv", [[], ["info"], ["encode"], ["info", "--yaml", "x.aea"]], ids=str)
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
