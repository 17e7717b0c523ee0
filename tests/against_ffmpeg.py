"""Give every file we make of your recordings to FFmpeg, and count what it takes.

    python tests/against_ffmpeg.py FOLDER [--ffmpeg ffmpeg] [--preset NAME …]

Encodes every recording of the folder, and cuts and repeats of one of them from 1 sample to 10 minutes, with the default
preset, or those named. FFmpeg decodes each through PyAV, and as the program named, with the format named; then PyAV
opens it without a name and a format. Prints totals, which docs/format.md and docs/results.md state.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from atrac_bitstream import AeaReader, read_info, unpack_units
from atrac_bitstream import tables as t
from atrac_codec import DEFAULT, build_decoder, build_encoder, decode_file, encode_file, read_audio
from atrac_codec.audio import SUFFIXES
from atrac_codec.outside import ffmpeg_decode

LENGTHS = (1, 2, 245, 246, 247, 511, 512, 513, 3830, 3831, 44100, 600 * 44100)


def program_decode(program: str, aea: Path, channels: int) -> NDArray[np.float32]:
    """Decode with the ffmpeg program, the format named. Shape: [C, N]."""
    command = [program, "-v", "error", "-f", "aea", "-i", str(aea), "-f", "f32le", "-"]
    output = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True).stdout
    return np.frombuffer(output, np.float32).reshape(-1, channels).T


def recognised(aea: bytes) -> bool:
    """Tell whether FFmpeg finds out by itself what this is, and decodes all of it."""
    try:
        return ffmpeg_decode(aea, name_format=False).shape == ffmpeg_decode(aea).shape
    except (ValueError, IndexError, av.error.FFmpegError):  # another format, without sound even, or none
        return False


def main() -> None:
    """Encode everything, decode everything, print totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ffmpeg", help="an ffmpeg program to ask too")
    parser.add_argument("--preset", action="append", default=[], help=f"encoder ({DEFAULT})")
    args = parser.parse_args()
    encoders = [build_encoder(name) for name in args.preset or [DEFAULT]]
    decoder = build_decoder()
    files = sorted(f for f in args.folder.rglob("*") if f.suffix.lower() in SUFFIXES)
    total: Counter[str] = Counter()
    largest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        sources = list(files)
        material = read_audio(max(files, key=lambda f: f.stat().st_size))
        for length in LENGTHS:
            sources.append(scratch / f"{length}.wav")
            repeated = np.resize(material.T, (length, len(material)))
            soundfile.write(sources[-1], repeated, 44100)
        for source, encoder in itertools.product(sources, encoders):
            aea, wav = scratch / "x.aea", scratch / "x.wav"
            encode_file(source, aea, encoder)
            decode_file(aea, wav, decoder, samples="float", keep_delay=True)
            info, ours = read_info(aea), read_audio(wav)
            total["files"] += 1
            total["sound units"] += info.frames * info.channels
            fields = unpack_units(AeaReader(aea).read())
            budget = np.vectorize(t.value_bits)(fields.n_bfu)
            total["sound units over budget"] += int((t.WORD_LENGTHS[fields.idwl] @ t.BFU_SIZES > budget).sum())
            outside = {"PyAV": ffmpeg_decode(aea.read_bytes())}
            if args.ffmpeg:
                outside[args.ffmpeg] = program_decode(args.ffmpeg, aea, info.channels)
            for name, theirs in outside.items():
                whole = theirs.shape == (info.channels, 512 * info.frames)
                total[f"{name}: frames x 512 samples"] += whole
                if whole:
                    largest = max(largest, float(np.abs(theirs - ours).max()))
            total["PyAV, format not named: recognised"] += recognised(aea.read_bytes())
            print(source.name, info.frames, flush=True)
    print(f"\nFFmpeg libraries of PyAV: {av.ffmpeg_version_info}" if hasattr(av, "ffmpeg_version_info") else "")
    for name, count in total.items():
        print(f"{name:40} {count}")
    print(f"{'largest difference to our decoder':40} {largest:.1e}")


if __name__ == "__main__":
    main()
