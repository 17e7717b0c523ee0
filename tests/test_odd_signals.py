"""Signals that no music is made of, through whole encoders: legal, finite, steady where they are steady, and played
alike by FFmpeg."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from atrac_bitstream import CODEC_DELAY, unpack_units
from atrac_bitstream import tables as t
from atrac_codec import NNFullCodec, bridge
from atrac_codec.outside import ffmpeg_decode
from atrac_modules import FrameBatch, used_value_bits, value_bits

PRESETS = ("rd", "neural")

FRAMES = 40
SAMPLES = 512 * FRAMES
SETTLED = slice(4, -4)
"""Frames that neither the start nor the end of a tone, both attacks, reaches."""
TONES = (30, 440, 5512, 11025, 16000, 21000)
"""Hz; 5512 and 11025 lie where two bands meet, 21000 beyond what most adults hear."""
AMPLITUDE = 0.9

SAME = 1e-5
"""Difference from FFmpeg's samples that float32 may make, for a full scale of 1 or a higher peak."""
TONE_SNR = 40.0
"""dB. Measured 46 and more, lowest at 21 kHz, where the threshold in quiet is high; 53 and more below."""
LEVEL_DRIFT = 0.05
"""dB by which a tone's level in a frame may differ from the original's. Measured 0.012 at most, at 21 kHz."""
WORD_DRIFT = 0.5
"""Bits by which a BFU's word length changes from frame to frame, in the mean. Measured 0.34 and less for tones of more
than one period in a frame: with the phase of a tone in its frame, coefficients change."""
WORD_DRIFT_SLOW = 1.5
"""The same for 30 Hz, of which a frame sees a third of a period. Measured 0.2 with rd."""
AMOUNT_STEPS = 1
"""Steps of `BFU_AMOUNTS` that a steady tone's number of BFUs may move by."""
OWN_WORDS = 1.8
"""Ratio of the word lengths around a tone, two BFUs on either side, to those of all others that are carried. Measured
2.1 (30 Hz) to 12: at 50 to 70 dB, all else gets its bits too."""
DC_ERROR = 5e-4
"""Of DC of 0.5. Measured 1.6e-4, rounding of the lowest BFUs to 16 bits and the ripple of the filters."""
CLICK_SNR, NOISE_SNR, SQUARE_SNR = 25.0, 4.0, 18.0
"""dB. Measured 34, 5.6 and 21.6 and more. Noise of full scale has 2 bits for a value."""
PRE_ECHO = -48.0
"""dB of a click's energy that may come more than 100 samples, 2.3 ms, before it. Measured -59 and -55."""
NOISE_DRIFT = 1.0
"""dB by which a frame of white noise may differ from the mean of them in level. Measured 0.65."""
NOISE_LOSS = 1.5
"""dB of level that white noise may lose: some of the highest BFUs get no bits. Measured 1.06 with neural."""


def signal(name: str) -> np.ndarray:
    """Return PCM [T] of full scale."""
    time = np.arange(SAMPLES)
    match name:
        case "silence":
            return np.zeros(SAMPLES)
        case "click":
            return (time == CLICK).astype(np.float64)
        case "noise":
            return np.random.default_rng(20261126).uniform(-1, 1, SAMPLES)
        case "square":
            return np.where(time // 50 % 2 == 0, 1.0, -1.0)
        case "dc":
            return np.full(SAMPLES, 0.5)
        case _:
            return AMPLITUDE * np.sin(2 * math.pi * float(name) / t.SAMPLE_RATE * time)


CLICK = SAMPLES // 2 + 77
SIGNALS = ("silence", "click", "noise", "square", "dc", *map(str, TONES))


@dataclass(frozen=True)
class Coded:
    """One signal through a codec: original and decoded [T], the fields [F, …], and the file."""

    original: np.ndarray
    decoded: np.ndarray
    batch: FrameBatch
    file: bytes

    @property
    def snr(self) -> float:
        """Signal to noise in settled frames in dB."""
        own, error = (frames(x)[SETTLED] for x in (self.original, self.decoded - self.original))
        return float(10 * np.log10(np.square(own).sum() / np.square(error).sum()))

    @property
    def drift(self) -> np.ndarray:
        """Decoded over original level of each settled frame in dB."""
        power = [np.square(frames(x)[SETTLED]).mean(1) for x in (self.decoded, self.original)]
        return 10 * np.log10(power[0] / power[1])

    @property
    def steps(self) -> np.ndarray:
        """Places of the numbers of BFUs in `BFU_AMOUNTS` in settled frames [F]."""
        return np.searchsorted(t.BFU_AMOUNTS, self.batch.n_bfu.numpy())[SETTLED]

    @property
    def words(self) -> np.ndarray:
        """Word lengths in settled frames [F, 52]."""
        return t.WORD_LENGTHS[self.batch.idwl.numpy().astype(int)][SETTLED]


def frames(pcm: np.ndarray) -> np.ndarray:
    return pcm.reshape(FRAMES, 512)


@functools.cache
def codec(preset: str) -> NNFullCodec:
    return NNFullCodec.from_pretrained(preset)


@functools.cache
def coded(preset: str, name: str) -> Coded:
    original = signal(name)
    with torch.no_grad():
        decoded, batch = codec(preset)(torch.from_numpy(original).float()[None, None], return_batch=True)
    (file,) = codec(preset).to_bytes(batch)
    return Coded(original, decoded[0, 0].double().numpy(), FrameBatch(*(x[0, 0] for x in batch)), file)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("preset", PRESETS)
def test_units_are_legal_and_play_alike_in_ffmpeg(preset: str, name: str):
    result = coded(preset, name)
    batch = result.batch
    assert np.isfinite(result.decoded).all()
    assert (used_value_bits(batch.idwl) <= value_bits(batch.n_bfu)).all()
    units = bridge.to_units(batch)
    assert not units[:, -(t.MIRROR_BITS + t.UNUSED_BITS) // 8 :].any()
    assert np.array_equal(unpack_units(units).quantized, batch.quantized.numpy())
    outside = ffmpeg_decode(result.file)[0, CODEC_DELAY:][:SAMPLES]
    assert len(outside) == SAMPLES
    assert np.abs(outside - result.decoded).max() < SAME * max(1, np.abs(result.decoded).max())


@pytest.mark.parametrize("preset", PRESETS)
def test_silence_stays_silence(preset: str):
    result = coded(preset, "silence")
    assert not result.decoded.any()
    assert not result.batch.quantized.any()
    assert not result.batch.idwl.any()
    assert (result.batch.n_bfu == t.BFU_AMOUNTS[0]).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_click_stays_where_it_is(preset: str):
    result = coded(preset, "click")
    assert np.abs(result.decoded).argmax() == CLICK
    assert result.decoded[CLICK] == pytest.approx(1, abs=0.1)
    assert result.snr > CLICK_SNR
    far = np.abs(np.arange(SAMPLES) - CLICK) > 1024 + CODEC_DELAY
    assert not result.decoded[far].any(), "two frames away"
    assert (result.batch.bsm.sum(-1) == 7).sum() >= 1, "split in all bands"
    before = np.square(result.decoded[: CLICK - 100]).sum()
    assert 10 * np.log10(before + 1e-12) < PRE_ECHO


@pytest.mark.parametrize("preset", PRESETS)
def test_dc_stays_dc(preset: str):
    result = coded(preset, "dc")
    assert np.abs(frames(result.decoded)[SETTLED] - 0.5).max() < DC_ERROR
    assert not result.batch.bsm[SETTLED].any()
    assert not np.diff(result.words, axis=0).any(), "every frame is the same"


@pytest.mark.parametrize("preset", PRESETS)
def test_square_waves_are_coded_about_right(preset: str):
    square = coded(preset, "square")
    assert square.snr > SQUARE_SNR
    assert np.abs(square.drift).max() < 0.5
    assert np.abs(square.decoded).max() < 1.5, "overshoot of a band limit and noise"


@pytest.mark.parametrize("preset", PRESETS)
def test_white_noise_of_full_scale_uses_its_bits_and_does_not_flutter(preset: str):
    noise = coded(preset, "noise")
    assert noise.snr > NOISE_SNR
    assert np.abs(noise.drift - noise.drift.mean()).max() < NOISE_DRIFT
    assert abs(noise.drift.mean()) < NOISE_LOSS
    left = value_bits(noise.batch.n_bfu) - used_value_bits(noise.batch.idwl)
    assert left[SETTLED].max() < 20, "a bit more for each value of the largest BFU"
    assert np.ptp(noise.steps) <= AMOUNT_STEPS


@pytest.mark.parametrize("hertz", TONES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_tone_has_its_bits_around_it_and_does_not_warble(preset: str, hertz: int):
    result, own = coded(preset, str(hertz)), int(t.BFU_OF_VALUE[hertz * 1024 // t.SAMPLE_RATE])
    assert result.snr > TONE_SNR
    words, carried = result.words, np.arange(52) < result.batch.n_bfu.numpy()[SETTLED][:, None]
    around = np.abs(np.arange(52) - own) <= 2
    assert words[:, around].mean() / words[carried & ~around].mean() > OWN_WORDS
    assert abs(words.mean(0).argmax() - own) <= 1
    assert np.abs(result.drift).max() < LEVEL_DRIFT
    slow = hertz * 512 < t.SAMPLE_RATE
    assert np.abs(np.diff(words, axis=0)).mean() < (WORD_DRIFT_SLOW if slow else WORD_DRIFT)
    assert slow or np.ptp(result.steps) <= AMOUNT_STEPS
