from __future__ import annotations

import numpy as np
import pytest
import soundfile

from atrac_codec import AudioError, AudioReader, AudioWriter, read_audio


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".aiff"])
@pytest.mark.parametrize("channels", [1, 2])
def test_files_of_many_formats_are_read(suffix: str, channels: int, tmp_path, sound):
    pcm, path = sound(9000, channels), tmp_path / f"x{suffix}"
    soundfile.write(path, pcm.T, 44100)
    got = read_audio(path)
    assert got.shape == pcm.shape
    assert got.dtype == np.float32
    assert np.abs(got - pcm).max() < (0.2 if suffix == ".ogg" else 1e-4)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000, 96000, 192000])
def test_other_rates_are_resampled_in_place_and_level(rate: int, tmp_path):
    time = np.arange(rate) / rate
    soundfile.write(tmp_path / "x.wav", 0.5 * np.sin(2 * np.pi * 997 * time), rate, "FLOAT")
    got = read_audio(tmp_path / "x.wav")
    assert abs(got.shape[1] - 44100) <= 2
    want = 0.5 * np.sin(2 * np.pi * 997 * np.arange(got.shape[1]) / 44100)
    assert np.abs(got[0] - want)[2000:-2000].max() < 1e-3


def test_resampling_does_not_depend_on_the_block_size(tmp_path, sound):
    soundfile.write(tmp_path / "x.wav", sound(30_000).T, 48000, "FLOAT")
    with AudioReader(tmp_path / "x.wav") as a, AudioReader(tmp_path / "x.wav") as b:
        assert np.array_equal(
            np.concatenate(list(a.blocks(1000)), axis=1), np.concatenate(list(b.blocks(30_000)), axis=1)
        )


def test_title_is_the_tag(tmp_path):
    with soundfile.SoundFile(tmp_path / "x.flac", "w", 44100, 1) as file:
        file.title = "Ein Lied"
        file.write(np.zeros(100))
    with AudioReader(tmp_path / "x.flac") as reader:
        assert reader.title == "Ein Lied"
        assert sum(block.shape[1] for block in reader.blocks()) == 100
    soundfile.write(tmp_path / "y.wav", np.zeros(100), 44100)
    with AudioReader(tmp_path / "y.wav") as reader:
        assert reader.title == ""
        assert sum(block.shape[1] for block in reader.blocks()) == 100


@pytest.mark.parametrize(("samples", "step"), [("16", 2**-15), ("24", 2**-23), ("float", 0.0)])
def test_samples_are_written_to_the_nearest_step_and_cut_at_full_scale(samples: str, step: float, tmp_path):
    pcm = np.array([[0.5, -0.25, 1.0, -1.0, 1.5, -1.5, 0.4 * 2**-15]], np.float32)
    with AudioWriter(tmp_path / "x.wav", 1, samples) as writer:
        writer.write(pcm)
    got, _ = soundfile.read(tmp_path / "x.wav", dtype="float64", always_2d=True)
    want = pcm[0] if samples == "float" else np.clip(np.round(pcm[0] / step) * step, -1, 1 - step)
    assert np.array_equal(got[:, 0], want.astype(np.float64))
    assert writer.clipped == (0 if samples == "float" else 3)


def test_writer_leaves_nothing_when_it_fails(tmp_path):
    (tmp_path / "x.wav").write_bytes(b"before")
    writer = AudioWriter(tmp_path / "x.wav", 1)
    writer.write(np.zeros((1, 100), np.float32))
    writer.__exit__(RuntimeError, RuntimeError(), None)
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"]
    assert (tmp_path / "x.wav").read_bytes() == b"before"


def test_formats_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(AudioError, match=r"files ending in \.xyz with 16 samples cannot be written"):
        AudioWriter(tmp_path / "x.xyz", 1)
    with pytest.raises(AudioError, match=r"\.flac with float samples cannot be written"):
        AudioWriter(tmp_path / "x.flac", 1, "float")
    with pytest.raises(AudioError, match="samples '8', allowed 16, 24, float"):
        AudioWriter(tmp_path / "x.wav", 1, "8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "samples", "width"), [(".wav", "16", 2), (".aiff", "24", 3), (".wav", "float", 4)])
def test_what_four_gibibytes_do_not_hold_is_refused(suffix: str, samples: str, width: int, tmp_path, monkeypatch):
    monkeypatch.setattr("atrac_codec.audio.LONGEST", 10_000)
    writer = AudioWriter(tmp_path / f"x{suffix}", 2, samples)
    writer.write(np.zeros((2, 10_000 // (2 * width)), np.float32))
    with pytest.raises(
        AudioError, match=r"longer than 4 GiB, more than this format can hold, allowed for example \.w64"
    ):
        writer.write(np.zeros((2, 1), np.float32))
    writer.abort()
    assert not list(tmp_path.iterdir())
    with AudioWriter(tmp_path / "x.flac", 2, "16") as flac:
        flac.write(np.zeros((2, 10_000), np.float32))


@pytest.mark.parametrize("kind", ["WAV", "AIFF"])
def test_files_beyond_four_gibibytes_are_not_read_in_part(kind: str, tmp_path):
    path = tmp_path / "x"
    soundfile.write(path, np.zeros((100, 2)), 44100, "PCM_16", format=kind)
    with path.open("r+b") as file:
        file.truncate(0xFFFFFFFF + 9)  # a hole takes no room
    with pytest.raises(AudioError, match=f"longer than 4 GiB, more than {kind} can hold"):
        AudioReader(path)
