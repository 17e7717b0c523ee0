"""Encode a sound with the default preset, decode it with our decoder and FFmpeg's, show the result.

    python apps/demo.py [FILE] [--output FOLDER]

Leaves the .aea, both decoded WAV files and a picture in the folder, and prints a table against preset `bitexact`,
which makes the same bytes as atracdenc, the common open-source encoder.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import tyro
from rich.console import Console
from rich.table import Table

from atrac_bitstream import CODEC_DELAY, AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import DEFAULT, build_decoder, build_encoder, compare, decode_file, encode_file, read_audio
from atrac_codec.outside import ffmpeg_decode
from atrac_data import render
from atrac_train.evaluation.media import draw, read_idwl

BASELINE = "bitexact"
SCORES = {
    "noise-to-mask ratio (dB)": "NMR dB",
    "disturbed frames (%)": "disturbed %",
    "log-spectral distance (dB)": "LSD dB",
    "SNR (dB)": "SNR dB",
}
"""Scores that are shown, and their heads in the table."""


@dataclass(frozen=True)
class Arguments:
    """The command line, see its help text."""

    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None
    """Audio file; default: a built-in sound."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("demo-output")
    """Folder for all files."""


def main() -> int:
    """Run the demo; return the exit code."""
    args = tyro.cli(Arguments, description=__doc__)
    args.output.mkdir(parents=True, exist_ok=True)
    source = args.file or args.output / "music.wav"
    if args.file is None:
        soundfile.write(source, render("music", seconds=10.0, seed=0, channels=2).T, SAMPLE_RATE, "FLOAT")
    try:
        original = read_audio(source)
    except (AtracError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    table = Table("preset", "decoder", *SCORES.values(), "encoded at", "decoded at")
    sounds, idwl = {"original": original}, {}
    for preset in (DEFAULT, BASELINE):
        aea = args.output / f"{source.stem}.{preset}.aea"
        times = [time.perf_counter()]
        samples = encode_file(source, aea, build_encoder(preset)).samples
        times.append(time.perf_counter())
        own, ffmpeg = aea.with_suffix(".wav"), aea.with_suffix(".ffmpeg.wav")
        decode_file(aea, own, build_decoder(), samples="float")
        times.append(time.perf_counter())
        outside = ffmpeg_decode(aea.read_bytes())[:, CODEC_DELAY:][:, :samples]
        soundfile.write(ffmpeg, outside.T, SAMPLE_RATE, "FLOAT")
        sounds[preset], idwl[preset] = read_audio(own), read_idwl(aea, samples)
        speeds = [f"{samples / SAMPLE_RATE / seconds:.0f} x" for seconds in np.diff(times)]
        for decoder, decoded, columns in (("ours", own, speeds), ("FFmpeg", ffmpeg, [])):
            scores = compare(source, decoded)
            table.add_row(preset, decoder, *(f"{scores[name]:.2f}" for name in SCORES), *columns)
        difference = np.abs(sounds[preset] - outside).max()
        print(f"{aea}: {samples} samples in and out, decoders differ by {difference:.1e} at most")
    Console().print(table)
    picture = draw(source.name, sounds, idwl, args.output / f"{source.stem}.png")
    print(f"Everything is in {args.output}/; {picture.name} shows it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
