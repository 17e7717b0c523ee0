"""The command line: `info` and `repair`, their output, their messages and their exit codes."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream import AeaHeader, Damage, RepeatDamage, SilenceDamage, read_info, repair_file
from atrac_bitstream.__main__ import main

DAMAGES = {
    "short": Damage(8, 1, "the file ends after 211 of 212 bytes", cut=True),
    "damaged": Damage(3, 0, "bsm[0] = 1, allowed 0 (long) and 2 (short)"),
}
MESSAGES = {
    "foreign": "the file begins with 52 49 46 46, an AEA file with 00 08 00 00",
    "empty": "the file ends after 0 bytes, a header has 2048",
    "folder": "Is a directory",
    "missing": "No such file or directory",
}


@pytest.fixture
def files(place: Path, stereo: NDArray[np.uint8]) -> dict[str, str]:
    """Paths of a good file, of damaged ones, of one without a header, of what is no AEA file, and of none."""
    good = AeaHeader.make(2, 18, "クラシック", 4321).data + stereo.tobytes()
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
        (place / f"{name}.aea").write_bytes(data)
    (place / "folder.aea").mkdir()
    return {name: str(place / f"{name}.aea") for name in (*contents, "folder", "missing", "out")}


# info ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["good", *DAMAGES])
def test_info_prints_every_fact_as_text_or_json(
    kind: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", files[kind]]) == int(kind in DAMAGES)
    out, err = capsys.readouterr()
    assert err == ""
    damages = f"1 ({DAMAGES[kind]})" if kind in DAMAGES else 0
    facts = {**vars(read_info(files[kind])), "damages": damages}
    assert out.splitlines() == [files[kind], *(f"  {name.replace('_', ' '):18} {facts[name]}" for name in facts)]
    assert "  title              クラシック\n  channels           2\n" in out
    assert main(["info", "--json", files[kind], files["good"]]) == int(kind in DAMAGES)
    one, two = capsys.readouterr().out.splitlines()
    assert one == json.dumps({"file": files[kind], **asdict(read_info(files[kind]))})
    assert two == json.dumps({"file": files["good"], **asdict(read_info(files["good"]))})


def test_file_without_a_header_is_described_when_asked(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for channels in (1, 2):
        assert main(["info", "--json", "--raw", str(channels), files["raw"]]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["title"], facts["channels"], facts["frames"]) == ("", channels, 18 // channels)
    assert main(["info", files["raw"]]) == 1
    assert "an AEA file with 00 08 00 00" in capsys.readouterr().err


@pytest.mark.parametrize("kind", MESSAGES)
def test_bad_file_is_a_message_on_stderr_and_those_beside_it_are_described(
    kind: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--json", files["good"], files[kind], files["good"]]) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["file"] for line in out.splitlines()] == [files["good"]] * 2
    assert err.startswith(f"{files[kind]}: ")
    assert MESSAGES[kind] in err
    assert err.count("\n") == 1


# repair -------------------------------------------------------------------------------------------


def test_command_repairs_and_reports(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    source, out, expected = Path(files["damaged"]), Path(files["out"]), Path(files["out"]).with_suffix(".expected")
    before = source.read_bytes()
    for options, policy in (([], SilenceDamage()), (["--damage", "repeat", "--force"], RepeatDamage())):
        assert main(["repair", *options, str(source), str(out)]) == 0
        printed, err = capsys.readouterr()
        assert err == ""
        assert printed == f"9 frames, sound units replaced: 1 ({DAMAGES['damaged']})\n"
        repair_file(source, expected, policy)
        assert out.read_bytes() == expected.read_bytes()
    assert source.read_bytes() == before
    assert main(["repair", "--raw", "1", "--force", files["raw"], str(out)]) == 0
    assert out.read_bytes() == AeaHeader.make(1, 18).data + Path(files["raw"]).read_bytes()
    assert main(["repair", "--force", str(source), str(source)]) == 0  # in its place
    assert main(["info", str(source)]) == 0


@pytest.mark.parametrize(
    ("source", "target", "force", "message"),
    [
        ("damaged", "good", False, "exists; --force replaces it"),
        ("damaged", "damaged", False, "exists; --force replaces it"),
        ("damaged", "folder", True, "Is a directory"),
        ("damaged", "none/out", False, "No such file or directory"),
        *((kind, "out", False, message) for kind, message in MESSAGES.items()),
    ],
)
def test_command_fails_with_a_message_and_changes_nothing(
    source: str, target: str, force: bool, message: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(files["good"]).parent
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    assert main(["repair", *["--force"] * force, files[source], str(folder / f"{target}.aea")]) == 1
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.startswith(f"{files[source]}: ")
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before


# Both ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "",
        "info",
        "encode",
        "info --yaml x.aea",
        "info --raw x.aea",
        "info --raw 3 x.aea",
        "repair in.aea",
        "repair in.aea out.aea more.aea",
        "repair --damage raise in.aea out.aea",
        "repair --raw 3 in.aea out.aea",
    ],
)
def test_wrong_command_line_is_exit_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert "usage: python -m atrac_bitstream" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_module_runs_as_a_command_without_traceback(encoding: str, files: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "atrac_bitstream", "info", files["good"], files["foreign"]],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert result.returncode == 1
    assert ("クラシック" if encoding == "utf-8" else r"\u30af\u30e9") in result.stdout
    assert result.stderr == f"{files['foreign']}: {MESSAGES['foreign']}\n"
