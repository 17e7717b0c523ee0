from __future__ import annotations

import numpy as np
import pytest

from atrac_bitstream import AeaReader, AeaWriter, read_info
from atrac_codec import build_decoder, build_encoder, decode_file, encode_file, read_audio

CHUNK = 4 * 512
"""Samples of a small chunk."""


@pytest.mark.parametrize("samples", [1, 2, 266, 512, CHUNK - 266, CHUNK, CHUNK + 900])
@pytest.mark.parametrize("channels", [1, 2])
def test_exactly_the_samples_that_went_in_come_back(samples: int, channels: int, wav, tmp_path, sound, small_chunks):
    source = wav(samples, channels)
    report = encode_file(source, tmp_path / "x.aea", build_encoder())
    assert (report.samples, report.channels, report.over) == (samples, channels, 0)
    back = decode_file(tmp_path / "x.aea", tmp_path / "back.wav", build_decoder(), samples="float")
    assert (back.samples, back.missing, back.frames) == (samples, 0, report.frames)
    sent, got = sound(samples, channels), read_audio(tmp_path / "back.wav")
    assert got.shape == sent.shape
    assert ((got - sent) ** 2).mean() < 0.05 * (sent**2).mean()


@pytest.mark.parametrize("channels", [1, 2])
def test_without_a_tag_every_sample_is_there_aligned_from_the_first_on(channels: int, wav, tmp_path, sound):
    encode_file(wav(20_000, channels), tmp_path / "x.aea", build_encoder(), length_tag=False)
    assert read_info(tmp_path / "x.aea").samples is None
    report = decode_file(tmp_path / "x.aea", tmp_path / "back.wav", build_decoder(), samples="float")
    got, sent = read_audio(tmp_path / "back.wav"), sound(20_000, channels)
    assert report.samples == got.shape[1] == 512 * report.frames - 266 >= 20_000
    for channel in range(channels):  # the first and the last frame too, on each channel
        for part in (slice(0, 512), slice(19_488, 20_000), slice(0, 20_000)):
            error = ((got[channel, part] - sent[channel, part]) ** 2).mean()
            assert error < 0.05 * (sent[channel, part] ** 2).mean(), (channel, part)


def test_every_preset_and_decoder_codes_files(pair: tuple[str, str], wav, tmp_path, sound):
    encode_file(wav(), tmp_path / "x.aea", build_encoder(pair[0]))
    decode_file(tmp_path / "x.aea", tmp_path / "x.flac", build_decoder(pair[1]))
    error = read_audio(tmp_path / "x.flac") - sound(20_000)
    assert (error**2).mean() < 1e-4


def test_header_is_complete(wav, tmp_path):
    report = encode_file(wav(20_000, 2, name="A song.wav"), tmp_path / "x.aea", build_encoder())
    with AeaReader(tmp_path / "x.aea") as reader:
        assert reader.header.title == "A song"
        assert reader.header.unit_count == 2 * report.frames
        assert reader.header.samples == 20_000
        assert len(reader.read()) == report.frames == 40
    encode_file(wav(), tmp_path / "y.aea", build_encoder(), title="Other")
    assert read_info(tmp_path / "y.aea").title == "Other"


def test_keep_delay_gives_all_that_other_decoders_give(wav, tmp_path):
    report = encode_file(wav(), tmp_path / "x.aea", build_encoder())
    decode_file(tmp_path / "x.aea", tmp_path / "cut.wav", build_decoder(), samples="float")
    decode_file(tmp_path / "x.aea", tmp_path / "all.wav", build_decoder(), samples="float", keep_delay=True)
    whole, cut = read_audio(tmp_path / "all.wav"), read_audio(tmp_path / "cut.wav")
    assert whole.shape[1] == 512 * report.frames
    assert np.array_equal(whole[:, 266 : 266 + 20_000], cut)


def test_a_tag_that_promises_more_than_there_is_is_reported(tmp_path, golden):
    with AeaWriter(tmp_path / "x.aea", golden.units.shape[1]) as writer:
        writer.write(golden.units)
        writer.samples = 512 * len(golden.units)
    report = decode_file(tmp_path / "x.aea", tmp_path / "x.wav", build_decoder())
    assert report.missing == 266
    assert report.samples == 512 * len(golden.units) - 266


def test_progress_is_told_the_seconds_done(wav, tmp_path, small_chunks):
    told: list[float] = []
    encode_file(wav(90_000), tmp_path / "x.aea", build_encoder(), progress=told.append)
    assert len(told) == 2
    assert told[-1] == pytest.approx(90_000 / 44100)
    told.clear()
    decode_file(tmp_path / "x.aea", tmp_path / "x.wav", build_decoder(), progress=told.append)
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] >= 90_000 / 44100


def test_a_dash_is_a_file_name_like_any_other(wav, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        encode_file("-", "x.aea", build_encoder())
    encode_file(wav(3000), "-", build_encoder())
    decode_file("-", "x.wav", build_decoder())
    assert {p.name for p in tmp_path.iterdir()} == {"in.wav", "-", "x.wav"}
