"""Who plays whose files: every encoder of ours in FFmpeg and in our decoders, the reference codec's in our decoders."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from atrac_bitstream import CODEC_DELAY, read_info
from atrac_codec import (
    DECODERS,
    DEFAULT,
    ENCODERS,
    NNFullCodec,
    bridge,
    build_decoder,
    build_encoder,
    decode_file,
    encode_file,
)
from atrac_codec.outside import ffmpeg_decode
from atrac_data import NAMES, render
from atrac_losses import snr

GOLDEN = sorted((Path(__file__).parent / "bitexact/golden").glob("*.npz"))
SAME = {"standard": 1e-5, "bitexact": 1e-6, "neural-stages": 1e-4}
"""Decoders that give the standard's samples, and how far float32 and learning leave them from FFmpeg's."""
SEARCHED = ("rd", "neural")
"""Presets that move scale factors below the largest value, which decoder `neural` has not been trained to expect."""
SEED = 77
"""Of no split of the built-in corpus."""


def write_sound(folder: Path, name: str) -> tuple[Path, np.ndarray]:
    """Write a built-in sound that nothing was trained on; return its path and samples."""
    pcm = render(name, seconds=1.5, seed=SEED, channels=2)
    soundfile.write(folder / "in.wav", pcm.T, 44100, "FLOAT")
    return folder / "in.wav", pcm


@pytest.mark.parametrize(("preset", "name"), [*product(ENCODERS, NAMES[:1]), *product([DEFAULT], NAMES[1:])])
def test_files_of_every_encoder_play_in_ffmpeg_and_in_every_decoder(preset: str, name: str, tmp_path: Path):
    source, pcm = write_sound(tmp_path, name)
    aea = tmp_path / "x.aea"
    encode_file(source, aea, build_encoder(preset))
    assert not read_info(aea).damages
    outside = torch.from_numpy(ffmpeg_decode(aea.read_bytes())[:, CODEC_DELAY:][:, : pcm.shape[1]].copy())
    original = torch.from_numpy(pcm)
    standard = snr(outside, original)
    assert standard > (3 if name == "noise" else 10)  # which has no bits to spare anywhere
    for decoder in DECODERS:
        codec = NNFullCodec.from_pretrained("reference", decoder)
        with torch.no_grad():
            ours = codec.from_bytes(aea.read_bytes())[0]
        if decoder in SAME:
            assert (ours - outside).abs().max() < SAME[decoder]
        elif preset in SEARCHED:  # they clip what the decoder takes for whole
            assert snr(ours, original) > standard - 4
        else:  # it looks for what was there before quantization
            assert snr(ours, original) > standard - 0.05


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@torch.no_grad()
def test_files_of_the_reference_codec_play_in_every_decoder(path: Path, decoder: str):
    with np.load(path) as golden:
        units, outside, pcm = golden["sound_units"], golden["pcm_ffmpeg"], golden["pcm"].astype(np.float32) / 32768
    frames = outside.shape[1] // 512
    aea = bridge.to_aea(bridge.from_units(units[:frames]).map(lambda f: f.transpose(0, 1)))
    ours = NNFullCodec.from_pretrained("reference", decoder).from_bytes(aea)[0].numpy()
    assert np.isfinite(ours).all()
    assert ours.shape == (outside.shape[0], outside.shape[1] - CODEC_DELAY)
    if decoder in SAME:
        assert np.abs(ours - outside[:, CODEC_DELAY:]).max() < SAME[decoder] * max(1, np.abs(outside).max())
    else:
        original = pcm[:, : ours.shape[1]]
        errors = [np.square(x - original).sum() for x in (ours, outside[:, CODEC_DELAY:])]
        assert errors[0] <= 1.05 * errors[1] + 1e-9


@pytest.mark.parametrize("preset", ENCODERS)
@pytest.mark.parametrize(("training", "autocast"), [(False, False), (True, True)])
def test_what_the_layer_gives_is_what_ffmpeg_makes_of_its_bytes(training: bool, autocast: bool, preset: str):
    waves = torch.stack([torch.from_numpy(render(name, seconds=1.0, seed=SEED, channels=2)) for name in NAMES[:2]])
    codec = NNFullCodec.from_pretrained(preset).train(training)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        decoded, batch = codec(waves.requires_grad_(training), return_batch=True)
    assert decoded.dtype == torch.float32
    for one, aea in zip(decoded.detach().numpy(), codec.to_bytes(batch), strict=True):
        outside = ffmpeg_decode(aea)[:, CODEC_DELAY:][:, : waves.shape[-1]]
        assert np.abs(outside - one).max() < 1e-5


@pytest.mark.parametrize("preset", ENCODERS)
@torch.no_grad()
def test_the_layer_and_files_decide_alike(preset: str, tmp_path: Path):
    source, pcm = write_sound(tmp_path, "music")
    encode_file(source, tmp_path / "x.aea", build_encoder(preset))
    decode_file(tmp_path / "x.aea", tmp_path / "x.wav", build_decoder(), samples="float")
    codec = NNFullCodec.from_pretrained(preset)
    layer = codec(torch.from_numpy(pcm)[None])[0]
    file = codec.from_bytes((tmp_path / "x.aea").read_bytes())[0]
    assert file.shape == layer.shape
    # Another number of frames rounds otherwise, which moves a word length here and there.
    assert snr(file, layer) > snr(layer, torch.from_numpy(pcm)) + 10
