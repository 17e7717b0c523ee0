from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from atrac_data import SPLITS, DataError, Manifest, Recording, scan, split_of


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def splits(manifest: Manifest) -> dict[str, str]:
    return {recording.path: recording.split for recording in manifest.recordings}


def test_recordings_come_in_the_order_of_their_paths(tmp_path):
    touch(tmp_path, "b.wav", "a/z.FLAC", "a/y.ogg", "a.txt", "ä/ü.mp3", ".hidden.wav", ".git/x.wav", "a/.x.part")
    assert [r.path for r in scan(tmp_path).recordings] == ["a/y.ogg", "a/z.FLAC", "b.wav", "ä/ü.mp3"]
    assert [r.path for r in scan(tmp_path, {".txt"}).recordings] == ["a.txt"]


def test_shares_are_80_10_10():
    counts = Counter(split_of(f"{i}.wav") for i in range(20_000))
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert counts[split] / 20_000 == pytest.approx(share, abs=0.01)  # 3 standard deviations are 0.0085


def test_every_recording_is_in_one_split_and_stays_there_when_files_are_added(tmp_path):
    touch(tmp_path, *(f"{i}.wav" for i in range(20)))
    before = splits(scan(tmp_path))
    touch(tmp_path, *(f"more/{i}.flac" for i in range(20)), "0a.wav")
    manifest = scan(tmp_path)
    assert {path: split for path, split in splits(manifest).items() if path in before} == before
    parts = [set(manifest.of(split)) for split in SPLITS]
    assert set().union(*parts) == set(manifest.recordings)
    assert sum(map(len, parts)) == 41


def test_a_split_file_decides_where_it_names_a_recording(tmp_path):
    touch(tmp_path, "a.wav", "b.wav", "c/d.wav")
    by_hash = splits(scan(tmp_path))
    other = {path: next(s for s in SPLITS if s != by_hash[path]) for path in ("a.wav", "c/d.wav")}
    (tmp_path / "split.json").write_text(json.dumps(other))
    assert splits(scan(tmp_path)) == {**by_hash, **other}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a.wav": "training"}', r"a\.wav is in split 'training', allowed train, validation, test"),
        ('{"a.wav": "test", "x.wav": "test"}', r"x\.wav is in split 'test', there is no such recording"),
        ('{"a.wav": 1}', r"allowed a JSON object of strings: a\.wav is 1"),
        ('["a.wav"]', r"allowed a JSON object of strings"),
        ('{"a.wav"', r"allowed a JSON object of strings"),
        ("\ud800", r"allowed a JSON object of strings"),
        ("[" * 10_000, r"allowed a JSON object of strings"),
    ],
)
def test_a_wrong_split_file_is_named(tmp_path, content: str, message: str):
    touch(tmp_path, "a.wav")
    (tmp_path / "split.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=rf"split\.json: {message}"):
        scan(tmp_path)


def test_licences_go_by_the_first_pattern_that_fits(tmp_path):
    touch(tmp_path, "a/x.wav", "a/y.wav", "b/x.wav", "c.wav")
    (tmp_path / "licences.json").write_text(json.dumps({"a/x.*": "CC0", "a/*": "CC-BY", "*/x.wav": "PD"}))
    licences = {recording.path: recording.licence for recording in scan(tmp_path).recordings}
    assert licences == {"a/x.wav": "CC0", "a/y.wav": "CC-BY", "b/x.wav": "PD", "c.wav": "unknown"}


def test_split_and_licence_files_may_lie_elsewhere(tmp_path):
    touch(tmp_path / "in", "a.wav")
    (tmp_path / "in" / "split.json").write_text('{"a.wav": "train"}')
    (tmp_path / "s.json").write_text('{"a.wav": "test"}')
    (tmp_path / "l.json").write_text('{"*": "CC0"}')
    (recording,) = scan(tmp_path / "in", split_file=tmp_path / "s.json", licence_file=tmp_path / "l.json").recordings
    assert (recording.split, recording.licence) == ("test", "CC0")
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "in", split_file=tmp_path / "nowhere.json")


def test_a_folder_without_recordings_is_named(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(DataError, match=r"no recordings, allowed files ending in \.wav"):
        scan(tmp_path, [".wav"])
    for nowhere in ("a.txt", "nowhere"):
        with pytest.raises(NotADirectoryError, match="is no folder"):
            scan(tmp_path / nowhere)


def test_a_manifest_refuses_a_recording_twice_and_an_unknown_split():
    with pytest.raises(DataError, match=r"a\.wav: each recording allowed once"):
        Manifest(Path(), (Recording("a.wav", "train"), Recording("a.wav", "test")))
    with pytest.raises(DataError, match=r"a\.wav: split 'dev', allowed train"):
        Manifest(Path(), (Recording("a.wav", "dev"),))
