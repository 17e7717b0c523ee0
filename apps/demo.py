"""Encode a sound with the default preset, decode it with our decoder and FFmpeg's, show what became of it.

    python apps/demo.py [FILE] [--output FOLDER]

Leaves the .aea, both decoded WAV files and a picture in the folder, and prints a table against preset `bitexact`,
which makes the same bytes as atracdenc, the common open-source encoder.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from atrac_bitstream import CODEC_DELAY, AtracError, unpack_units
from atrac_bitstream.aea import AeaReader
from atrac_bitstream.tables import SAMPLE_RATE, WORD_LENGTHS
from atrac_codec import DEFAULT, build_decoder, build_encoder, decode_file, encode_file, read_audio
from atrac_codec.compare import compare
from atrac_codec.outside import ffmpeg_decode
from atrac_data import render
from atrac_train.pictures.codec import spectrogram

BASELINE = "bitexact"


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="audio file; default: a built-in sound")
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    source = args.file
    if source is None:
        source = args.output / "music.wav"
        soundfile.write(source, render("music", seconds=10.0, seed=0, channels=2).T, SAMPLE_RATE, "FLOAT")
    try:
        original = read_audio(source)
    except (AtracError, OSError) as error:
        print(error, file=sys.stderr)
        return 1

    table = Table(
        "preset", "decoder", "SNR dB", "segmental SNR dB", "log-spectral distance dB", "encoded at", "decoded at"
    )
    decoded = {}
    for preset in dict.fromkeys((DEFAULT, BASELINE)):
        aea = args.output / f"{source.stem}.{preset}.aea"
        started = time.perf_counter()
        report = encode_file(source, aea, build_encoder(preset))
        encoding = time.perf_counter() - started
        wav = aea.with_suffix(".wav")
        started = time.perf_counter()
        decode_file(aea, wav, build_decoder(), samples="float")
        decoding = time.perf_counter() - started
        seconds = report.samples / SAMPLE_RATE
        outside = ffmpeg_decode(aea.read_bytes())[:, CODEC_DELAY:][:, : report.samples]
        soundfile.write(aea.with_suffix(".ffmpeg.wav"), outside.T, SAMPLE_RATE, "FLOAT")
        for decoder, pcm, speed in (
            ("ours", read_audio(wav), (f"{seconds / encoding:.0f} x", f"{seconds / decoding:.0f} x")),
            ("FFmpeg", outside, ("", "")),
        ):
            scores = compare(original, pcm)
            columns = [scores[k] for k in ("SNR (dB)", "segmental SNR (dB)", "log-spectral distance (dB)")]
            table.add_row(preset, decoder, *(f"{value:.2f}" for value in columns), *speed)
            decoded[preset, decoder] = pcm
        difference = np.abs(decoded[preset, "ours"] - outside).max()
        print(f"{aea}: {report.samples} samples in and out, decoders differ by {difference:.1e} at most")
    Console().print(table)
    picture = args.output / f"{source.stem}.png"
    draw(original, decoded[DEFAULT, "ours"], args.output / f"{source.stem}.{DEFAULT}.aea", picture)
    print(f"Everything is in {args.output}/; {picture.name} shows it.")
    return 0


def draw(original: NDArray[np.float32], decoded: NDArray[np.float32], aea: Path, picture: Path) -> None:
    """Draw spectrograms of original, decoded and their difference, and the bits that each BFU got over time."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    with AeaReader(aea) as reader:
        fields = unpack_units(reader.read())
    figure, axes = pyplot.subplots(4, 1, figsize=(12, 14), sharex=True, layout="constrained")
    sounds = {"original": original, "decoded": decoded, "difference": decoded - original}
    for axis, (name, sound) in zip(axes, sounds.items()):
        spectrum = spectrogram(sound[0])
        extent = (0, sound.shape[1] / SAMPLE_RATE, 0, SAMPLE_RATE / 2000)
        image = axis.imshow(spectrum, origin="lower", aspect="auto", extent=extent, vmin=-110, vmax=0, cmap="magma")
        axis.set(title=name, ylabel="kHz")
        figure.colorbar(image, ax=axis, label="dB of full scale")
    words = WORD_LENGTHS[fields.idwl[:, 0]]
    extent = (0, len(words) * 512 / SAMPLE_RATE, 0, 52)
    image = axes[3].imshow(words.T, origin="lower", aspect="auto", extent=extent, cmap="viridis")
    for frame, band in np.argwhere(fields.bsm[:, 0] > 0):
        low, high = ((0, 20), (20, 36), (36, 52))[band]
        axes[3].vlines((frame + 0.5) * 512 / SAMPLE_RATE, low, high, "red", linewidth=0.7)
    axes[3].set(title="bits per value (red: short blocks)", ylabel="BFU", xlabel="seconds", xlim=(0, extent[1]))
    figure.colorbar(image, ax=axes[3], label="bits")
    figure.suptitle(f"{aea.name}, channel 0")
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    sys.exit(main())
