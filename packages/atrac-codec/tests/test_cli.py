from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from atrac_bitstream import read_info
from atrac_codec.cli import main


def test_encode_and_decode_beside_the_input(wav, tmp_path):
    source = wav(20_000)
    assert main(["encode", str(source)]) == 0
    assert read_info(tmp_path / "in.aea").samples == 20_000
    source.unlink()
    assert main(["decode", str(tmp_path / "in.aea")]) == 0
    assert soundfile.info(tmp_path / "in.wav").frames == 20_000
    assert soundfile.info(tmp_path / "in.wav").subtype == "PCM_16"


def test_folders_keep_their_structure(wav, tmp_path):
    wav(3000, name="album/one.wav")
    wav(3000, 1, name="album/disc 2/two.flac")
    (tmp_path / "album/cover.txt").write_text("no audio")
    assert main(["encode", str(tmp_path / "album"), "-o", str(tmp_path / "out")]) == 0
    made = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.aea")}
    assert made == {"one.aea", "disc 2/two.aea"}
    assert main(["decode", str(tmp_path / "out"), "-o", str(tmp_path / "back")]) == 0
    assert soundfile.info(tmp_path / "back/disc 2/two.wav").channels == 1


def test_two_inputs_never_share_an_output(wav, tmp_path, capsys):
    wav(3000, name="a/x.wav")
    wav(3000, name="b/x.wav")
    inputs = [str(tmp_path / "a/x.wav"), str(tmp_path / "b/x.wav")]
    assert main(["encode", *inputs, "-o", str(tmp_path / "out"), "--force"]) == 1
    assert "was just made from another input" in capsys.readouterr().err


def test_one_bad_file_does_not_stop_the_others(wav, tmp_path, capsys):
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    good = wav(3000)
    assert main(["encode", str(tmp_path / "bad.wav"), str(good), "-o", str(tmp_path / "out")]) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["in.aea"]
    error = capsys.readouterr().err
    assert "bad.wav" in error
    assert "Traceback" not in error


def test_presets_titles_and_tags(wav, tmp_path):
    source = str(wav(3000))
    command = ["encode", source, "-o", str(tmp_path / "x.aea"), "--preset", "bitexact", "--title", "Étude"]
    assert main([*command, "--no-length-tag"]) == 0
    info = read_info(tmp_path / "x.aea")
    assert (info.title, info.samples) == ("Étude", None)
    command = ["decode", str(tmp_path / "x.aea"), "-o", str(tmp_path / "x.flac"), "--decoder", "bitexact"]
    assert main([*command, "--samples", "24"]) == 0
    assert soundfile.info(tmp_path / "x.flac").subtype == "PCM_24"


@pytest.mark.parametrize("command", ["encode", "decode", "repair"])
def test_standard_output_gets_what_a_file_gets(command: str, wav, aea, tmp_path, monkeypatch):
    source = wav(3000) if command == "encode" else tmp_path / "in.aea"
    if command != "encode":
        source.write_bytes(aea())
    target = tmp_path / "out.wav"
    target.write_bytes(b"replaced by --force")
    assert main([command, str(source), "-o", str(target), "--force"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", io.TextIOWrapper(out := io.BytesIO()))
        assert main([command, str(source), "-o", "-"]) == 0
        assert out.getvalue() == target.read_bytes()


def test_info_prints_a_table_or_json(wav, tmp_path, capsys):
    main(["encode", str(wav(3000))])
    assert main(["info", str(tmp_path)]) == 0
    assert "3000" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "in.aea"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["samples"], facts["channels"], facts["title"]) == (3000, 2, "in")


@pytest.mark.parametrize("argv", [["encode"], ["encode", "x.wav", "--preset", "best"], ["nonsense"], []])
def test_a_wrong_command_line_is_exit_code_2(argv: list[str], capsys):
    assert main(argv) == 2


@pytest.mark.parametrize("argv", [["--help"], ["encode", "--help"], ["decode", "--help"], ["compare", "--help"]])
def test_help_is_there(argv: list[str], capsys):
    assert main(argv) == 0
    assert "atrac1" in capsys.readouterr().out


def test_names_with_brackets_are_shown_whole(tmp_path: Path, capsys):
    (tmp_path / "song [live].wav").write_bytes(b"nothing")
    assert main(["encode", str(tmp_path / "song [live].wav")]) == 1
    assert "song [live].wav" in capsys.readouterr().err
    soundfile.write(tmp_path / "[bold].wav", np.zeros(2000), 44100)
    assert main(["encode", str(tmp_path / "[bold].wav")]) == 0
    assert main(["info", str(tmp_path / "[bold].aea")]) == 0
    assert "[bold].aea" in capsys.readouterr().out


def test_stopping_leaves_nothing_behind(wav, tmp_path, monkeypatch, capsys):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    source = wav(3000)
    monkeypatch.setattr("atrac_codec.files.StreamEncoder.finish", stop)
    assert main(["encode", str(source)]) == 130
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def test_effort_changes_the_file_and_needs_a_preset_that_searches(wav, tmp_path, capsys):
    source = str(wav(100_000))
    for effort in ("fast", "best"):
        target = str(tmp_path / f"{effort}.aea")
        assert main(["encode", source, "--preset", "rd", "--effort", effort, "-o", target]) == 0
    assert (tmp_path / "fast.aea").read_bytes() != (tmp_path / "best.aea").read_bytes()
    assert main(["encode", source, "--preset", "reference", "--effort", "best"]) == 2
    assert "preset reference searches for nothing" in capsys.readouterr().err


def test_the_first_search_says_that_it_is_prepared(wav, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("atrac_runtime.kernels.compiled.is_compiled", lambda: False)
    for preset, said in (("neural", True), ("reference", False)):
        assert main(["encode", str(wav(2000)), "--preset", preset, "-o", str(tmp_path / f"{preset}.aea")]) == 0
        assert ("preparing the search for this machine" in capsys.readouterr().err) == said
