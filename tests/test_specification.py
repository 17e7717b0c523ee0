"""A decoder written from docs/format.md alone, one sound unit at a time, with direct sums in float64.

It imports nothing of this project: if it agrees with the outside decoders, the document is enough to write one from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "bitexact" / "golden"
HALF = [
    -0.00001461907, -0.00009205479, -0.000056157569, 0.00030117269, 0.0002422519, -0.00085293897,
    -0.0005205574, 0.0020340169, 0.00078333891, -0.0042153862, -0.00075614988, 0.0078402944,
    -0.000061169922, -0.01344162, 0.0024626821, 0.021736089, -0.007801671, -0.034090221,
    0.01880949, 0.054326009, -0.043596379, -0.099384367, 0.13207909, 0.46424159,
]  # fmt: skip
TAPS = 2 * np.array(HALF + HALF[::-1])
SIZES = [8] * 4 + [4] * 4 + [8] * 4 + [6] * 8 + [6] * 4 + [7] * 4 + [9] * 4 + [10] * 4 + [12] * 8 + [20] * 8
SHORT = [
    0, 32, 64, 96, 8, 40, 72, 104, 12, 44, 76, 108, 20, 52, 84, 116, 26, 58, 90, 122,
    128, 160, 192, 224, 134, 166, 198, 230, 141, 173, 205, 237, 150, 182, 214, 246,
    *range(256, 512, 32), *range(268, 512, 32),
]  # fmt: skip


def spectrum_of(unit: bytes) -> tuple[list[int], np.ndarray]:
    """Read block size modes and dequantized spectrum."""
    bits, position = "".join(f"{byte:08b}" for byte in unit), 0

    def read(width: int) -> int:
        nonlocal position
        position += width
        return int(bits[position - width : position], 2)

    modes = [2 - read(2), 2 - read(2), 3 - read(2)]
    read(2)
    carried = [20, 28, 32, 36, 40, 44, 48, 52][read(3)]
    read(5)
    idwl = [read(4) for _ in range(carried)]
    idsf = [read(6) for _ in range(carried)]
    spectrum = np.zeros(512)
    for bfu in range(carried):
        band = 0 if bfu < 20 else 1 if bfu < 36 else 2
        start = SHORT[bfu] if modes[band] else sum(SIZES[:bfu])
        width = idwl[bfu] + 1 if idwl[bfu] else 0
        for k in range(start, start + SIZES[bfu] * (width > 0)):
            value = read(width)
            value -= value >> width - 1 << width
            spectrum[k] = 2 ** (idsf[bfu] / 3 - 21) * value / (2 ** (width - 1) - 1)
    return modes, spectrum


def inverse_mdct(coefficients: np.ndarray) -> np.ndarray:
    """Transform and window one block: n coefficients to n + 32 samples."""
    n = 2 * len(coefficients)
    time, k = np.arange(n // 4 - 16, 3 * n // 4 + 16)[:, None], np.arange(n // 2)
    samples = 2 * np.cos(2 * np.pi / n * (time + 0.5 + n / 4) * (k + 0.5)) @ coefficients
    rising = np.sin((np.arange(32) + 0.5) * np.pi / 64)
    samples[:32] *= rising
    samples[-32:] *= rising[::-1]
    return samples


def join(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Run one QMF level over whole half bands."""
    merged = np.concatenate([np.zeros(46), np.stack([lower + upper, lower - upper], 1).ravel()])
    windows = np.lib.stride_tricks.sliding_window_view(merged, 48)[::2]
    return np.stack([windows[:, 1::2] @ TAPS[1::2], windows[:, ::2] @ TAPS[::2]], 1).ravel()


def decode(units: np.ndarray) -> np.ndarray:
    """Decode the sound units [F, 212] of one channel."""
    bands = [np.zeros(len(units) * size + 32) for size in (128, 128, 256)]
    for frame, unit in enumerate(units):
        modes, spectrum = spectrum_of(unit.tobytes())
        for band, (first, size) in enumerate([(0, 128), (128, 128), (256, 256)]):
            block = 32 if modes[band] else size
            for offset in range(0, size, block):
                own = spectrum[first + offset : first + offset + block]
                at = frame * size + offset
                bands[band][at : at + block + 32] += inverse_mdct(own[::-1] if band else own)
    low, mid, high = (band[:-32] for band in bands)
    return join(join(low, mid), np.concatenate([np.zeros(39), high])[: len(high)])


def test_a_decoder_from_the_specification_agrees_with_ffmpeg_and_pytrac():
    decoded = short = 0
    for path in sorted(GOLDEN.glob("*.npz")):
        with np.load(path) as file:
            units, ffmpeg, pytrac = (file[name] for name in ("sound_units", "pcm_ffmpeg", "pcm_pytrac"))
        for channel, (by_ffmpeg, by_pytrac) in enumerate(zip(ffmpeg, pytrac, strict=True)):
            own = units[: len(by_ffmpeg) // 512, channel]
            pcm = decode(own)
            assert np.abs(pcm - by_ffmpeg).max() < 9e-7, path.stem
            assert np.abs(pcm - by_pytrac).max() < 9e-7, path.stem
            decoded += len(own)
            short += int((own[:, 0] >> 2 != 0x2B).sum())
    assert (decoded, short) == (736, 47)
