"""Compare the noise-to-mask ratio with PEAQ's grades, over recordings coded by several encoders; run by hand.

    python tests/against_peaq.py FOLDER --peaq PATH --rival atracdenc="atracdenc -e atrac1 -i {wav} -o {aea}" …

PEAQ is an outside program that is called as `PATH [--advanced] REFERENCE TEST` and prints "Objective Difference
Grade: …" (GstPEAQ's command does). Rivals are commands that make an ATRAC1 file {aea} of a 16-bit WAV file {wav}; ours
is preset `bitexact`. FFmpeg decodes all files. Of FOLDER, the recordings of the test split are taken. PEAQ gets WAV
files at 48 kHz, as it wants. Prints each encoder's means, and rank correlations over all coded recordings.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from atrac_bitstream import CODEC_DELAY
from atrac_codec import build_encoder, encode_file, read_audio
from atrac_codec.audio import SUFFIXES
from atrac_codec.outside import ffmpeg_decode
from atrac_data import scan
from atrac_losses import nmr, snr

OURS = "bitexact"


def grade(peaq: str, reference: Path, test: Path, *options: str) -> float:
    """Ask PEAQ; not a number where it gives none."""
    result = subprocess.run([peaq, *options, str(reference), str(test)], capture_output=True, text=True)
    found = re.search(r"Grade: (-?[\d.]+)", result.stdout)
    return float(found.group(1)) if found else float("nan")


def at_48_khz(pcm: NDArray[np.float32], path: Path) -> Path:
    """Write a WAV file at 48 kHz, [C, N]."""
    soundfile.write(path, soxr.resample(pcm.T, 44100, 48000), 48000, "PCM_24")
    return path


def main() -> int:
    """Code, grade, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peaq", required=True)
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--shortest", type=float, default=1.0, help="seconds that a recording must have")
    args = parser.parse_args()
    rivals = dict(rival.split("=", 1) for rival in args.rival)
    rows: list[tuple[str, str, float, float, float, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        wav, aea, reference, test = (Path(scratch) / name for name in ("x.wav", "x.aea", "ref.wav", "test.wav"))
        for recording in scan(args.folder, SUFFIXES).of("test"):
            pcm = np.clip(read_audio(args.folder / recording.path), -1, 32767 / 32768)
            if pcm.shape[1] < args.shortest * 44100:
                continue
            soundfile.write(wav, pcm.T, 44100, "PCM_16")
            pcm = read_audio(wav)
            at_48_khz(pcm, reference)
            for name in (OURS, *rivals):
                aea.unlink(missing_ok=True)
                if name == OURS:
                    encode_file(wav, aea, build_encoder(OURS))
                else:
                    command = [part.format(wav=wav, aea=aea) for part in shlex.split(rivals[name])]
                    subprocess.run(command, check=True, capture_output=True)
                decoded = ffmpeg_decode(aea.read_bytes())[:, CODEC_DELAY:][:, : pcm.shape[1]].astype(np.float32)
                original = pcm[:, : decoded.shape[1]]  # rivals lose the end
                at_48_khz(np.pad(decoded, ((0, 0), (0, pcm.shape[1] - decoded.shape[1]))), test)
                pair = torch.from_numpy(decoded.copy()), torch.from_numpy(original.copy())
                odg = grade(args.peaq, reference, test), grade(args.peaq, reference, test, "--advanced")
                rows.append((recording.path, name, *odg, nmr(*pair).item(), snr(*pair).item()))
                print(*rows[-1], sep="\t", file=sys.stderr, flush=True)

    table = np.array([row[2:] for row in rows])
    good = np.isfinite(table).all(1)
    print(f"{good.sum()} of {len(rows)} coded recordings graded\n\n| encoder | ODG | ODG advanced | NMR dB | SNR dB |")
    print("|---|---|---|---|---|")
    for name in (OURS, *rivals):
        mean = table[good & np.array([row[1] == name for row in rows])].mean(0)
        print(f"| {name} | {mean[0]:.3f} | {mean[1]:.3f} | {mean[2]:.2f} | {mean[3]:.2f} |")
    print("\n| rank correlation | with ODG | with ODG advanced |\n|---|---|---|")
    for label, column in (("-NMR", -table[:, 2]), ("SNR", table[:, 3])):
        both = [spearmanr(column[good], table[good, k]).statistic for k in (0, 1)]
        print(f"| {label} | {both[0]:.3f} | {both[1]:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
