"""Write the golden vectors: synthetic signals through pytrac, and its sound units through both decoders.

    python tests/bitexact/make_golden.py FOLDER

Needs the real pytrac (github.com/aynik/pytrac) and PyAV. golden/ORIGIN.md describes the fields.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from atrac_bitstream.tables import BFU_AMOUNTS, WORD_LENGTHS
from atrac_bitstream.tables import SAMPLE_RATE as RATE
from atrac_codec import from_units, to_aea
from atrac_codec.outside import ffmpeg_decode, load_pytrac
from atrac_data.teacher import pytrac_frame

FLOAT_FRAMES = 12
PCM_FRAMES = 48
Array = NDArray[Any]


def times(seconds: float) -> Array:
    """Return the times of whole frames."""
    return np.arange(int(seconds * RATE) // 512 * 512) / RATE


def sweep() -> Array:
    """Rise from 20 Hz to 20 kHz in 2 s."""
    rate = np.log(20000 / 20) / 2.0
    return 0.5 * np.sin(2 * np.pi * 20 * (np.exp(rate * times(2.0)) - 1) / rate)[None]


def multitone() -> Array:
    """Sound nine tones in each channel."""
    left = [55, 220, 441, 1003, 2750, 5513, 7001, 11025, 14999]
    right = [82.4, 330, 660, 1500, 3300, 5600, 9000, 12000, 17000]
    t = times(1.5)
    return np.stack(
        [
            sum(0.09 * np.sin(2 * np.pi * f * t + i) for i, f in enumerate(left)),
            sum(0.09 * np.sin(2 * np.pi * f * t + 2 * i) for i, f in enumerate(right)),
        ]
    )


def pink_noise(rng: np.random.Generator) -> Array:
    """Shape noise to fall by 3 dB an octave."""
    noise = rng.standard_normal((2, len(times(1.5))))
    frequency = np.fft.rfftfreq(noise.shape[1], 1 / RATE)
    frequency[0] = frequency[1]
    pink = np.fft.irfft(np.fft.rfft(noise) / np.sqrt(frequency), noise.shape[1])
    return 0.25 * pink / np.abs(pink).max() * 2


def clicks(rng: np.random.Generator) -> Array:
    """Scatter 14 decaying bursts of noise."""
    x = np.zeros((2, len(times(2.0))))
    for at in np.sort(rng.integers(2000, x.shape[1] - 6000, 14)):
        envelope = np.exp(-np.arange(3000) / rng.uniform(40, 500))
        burst = envelope * rng.standard_normal(3000)
        x[:, at : at + 3000] += burst * np.array([[rng.uniform(0.1, 0.8)], [rng.uniform(0.1, 0.8)]]) * 0.5
    return x


def voice(rng: np.random.Generator) -> Array:
    """Send pulses of wavering pitch through four formants, on and off."""
    t = times(2.0)
    phase = np.cumsum(110 + 30 * np.sin(2 * np.pi * 0.9 * t)) / RATE
    y = (np.diff(np.floor(phase), prepend=0) > 0).astype(float) + 0.01 * rng.standard_normal(len(t))
    for center, width in [(650, 80), (1080, 90), (2450, 120), (3300, 180)]:
        r = np.exp(-np.pi * width / RATE)
        y = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * center / RATE), r * r], y)
    y = y * (0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 1.7 * t)) * 0.9)
    return (0.6 * y / np.abs(y).max())[None]


def impulses() -> Array:
    """Set two single samples."""
    x = np.zeros(len(times(1.0)))
    x[len(times(0.5))] = 0.9
    x[len(times(0.5)) + 5000] = -0.9
    return x[None]


def square() -> Array:
    """Drive a square wave to full scale."""
    wave = np.sign(np.sin(2 * np.pi * 997 * times(1.0)))
    return np.stack([wave * 32767 / 32768, -wave])


def music(rng: np.random.Generator) -> Array:
    """Pluck eight strings across the stereo field, over twelve hats."""
    x = np.zeros((2, len(times(3.0))))
    for i, pitch in enumerate([82.4, 110, 146.8, 196, 246.9, 329.6, 392, 523.2]):
        n = int(RATE / pitch)
        pluck = rng.standard_normal(n) * 0.3
        start = int(i * 0.3 * RATE)
        rest = x.shape[1] - start
        a = np.zeros(n + 1)
        a[0] = 1
        a[-1] = a[-2] = -0.498
        string = np.zeros(x.shape[1])
        string[start:] = lfilter([1.0], a, np.concatenate([pluck, np.zeros(rest)])[:rest])
        x[0] += string * (1 - i / 7)
        x[1] += string * i / 7
    for i in range(12):
        start = int(i * 0.25 * RATE)
        length = min(2500, x.shape[1] - start)
        hat = rng.standard_normal(length) * np.exp(-np.arange(length) / 300)
        x[:, start : start + length] += 0.12 * np.diff(hat, prepend=0)
    return 0.8 * x / np.abs(x).max()


def dc_and_nyquist() -> Array:
    """Alternate around a constant."""
    x = np.full(len(times(1.0)), 0.3)
    x[::2] += 0.2
    x[1::2] -= 0.2
    return x[None]


def signals() -> dict[str, Array]:
    """Return every signal as int16 [C, N]; the order matters, one source of randomness serves all."""
    rng = np.random.default_rng(20261122)
    sounds = {
        "sweep_mono": sweep(),
        "multitone_stereo": multitone(),
        "pinknoise_stereo": pink_noise(rng),
        "clicks_stereo": clicks(rng),
        "voice_mono": voice(rng),
        "impulse_mono": impulses(),
        "fullscale_square_stereo": square(),
        "music_stereo": music(rng),
        "quiet_noise_mono": (3e-5 * rng.standard_normal(len(times(1.0))))[None],
        "dc_nyquist_mono": dc_and_nyquist(),
        "silence_stereo": np.zeros((2, 512 * 8)),
    }
    return {name: np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16) for name, x in sounds.items()}


def vectors(pytrac: ModuleType, pcm: Array) -> dict[str, Array]:
    """Run one signal [C, N] through pytrac's encoder and both decoders."""
    channels, frames = pcm.shape[0], pcm.shape[1] // 512
    encoder, decoder = pytrac.FrameProcessor(channels), pytrac.FrameDecoder(channels)
    rows: dict[str, list[Any]] = {}

    def add(name: str, row: list[Any], dtype: type) -> None:
        rows.setdefault(name, []).append(np.array(row, dtype))

    for f in range(frames):
        frame = np.ascontiguousarray(pcm[:, f * 512 : (f + 1) * 512].astype(np.float32) / 32768)
        truth = pytrac_frame(encoder, decoder, frame)
        add("sound_units", truth["units"], np.uint8)
        add("window_mask", [[1, 2, 4] @ (np.array(bsm) > 0) for bsm in truth["bsm"]], np.uint8)
        add("bfu_amount_idx", [BFU_AMOUNTS.index(n_bfu) for n_bfu in truth["n_bfu"]], np.uint8)
        add("word_length", list(WORD_LENGTHS[truth["idwl"]]), np.uint8)
        add("scale_factor_idx", truth["idsf"], np.uint8)
        add("quantized", truth["quantized"], np.int32)
        if f < PCM_FRAMES:
            add("pcm_pytrac", truth["dec_pcm"], np.float32)
        if f < FLOAT_FRAMES:
            add("qmf", truth["bands"], np.float32)
            add("mdct", truth["spectrum"], np.float32)
            add("scaled", truth["scaled"], np.float32)
            add("dec_spectrum", truth["dec_spectrum"], np.float32)
            add("dec_qmf", truth["dec_bands"], np.float32)
    result = {name: np.stack(row) for name, row in rows.items()}
    result["pcm_pytrac"] = np.concatenate(list(result["pcm_pytrac"]), axis=1)
    aea = to_aea(from_units(result["sound_units"]).map(lambda field: field.transpose(0, 1)))
    result["pcm_ffmpeg"] = ffmpeg_decode(aea)[:, : PCM_FRAMES * 512].astype(np.float32)
    return {**result, "pcm": pcm}


def main(folder: Path) -> None:
    """Write one .npz per signal."""
    pytrac = load_pytrac()
    folder.mkdir(parents=True, exist_ok=True)
    for name, pcm in signals().items():
        np.savez_compressed(folder / f"{name}.npz", **vectors(pytrac, pcm))
        print(name, pcm.shape)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
