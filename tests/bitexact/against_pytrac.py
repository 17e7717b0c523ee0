"""Hold presets and decoders against a live pytrac and FFmpeg on recordings of your own.

    python tests/bitexact/against_pytrac.py FOLDER [--json FILE]

Needs the real pytrac (github.com/aynik/pytrac) and PyAV to be importable; pytrac encodes and decodes every recording
frame by frame. Prints a row per recording, then the totals that docs/results.md states.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atrac_bitstream import UnitArrays, frames_for, unpack_units
from atrac_codec import NNEncoder, build_decoder, build_encoder, from_units, read_audio, to_aea, to_units
from atrac_codec.audio import SUFFIXES
from atrac_codec.outside import ffmpeg_decode, load_pytrac, pytrac_decode, pytrac_encode
from atrac_modules import BfuLayout


def encoders() -> dict[str, tuple[NNEncoder, torch.dtype]]:
    """Build what is held against pytrac; float64 tells what of a difference is the reference codec's own rounding."""
    torch.set_default_dtype(torch.float64)
    double = build_encoder("reference")
    torch.set_default_dtype(torch.float32)
    return {
        "bitexact": (build_encoder("bitexact"), torch.float32),
        "reference": (build_encoder("reference"), torch.float32),
        "reference in float64": (double, torch.float64),
    }


def compare(pcm: NDArray[np.float32], chains: dict[str, tuple[NNEncoder, torch.dtype]]) -> dict[str, tuple[int, int]]:
    """Count for one recording [C, 512 F] what is equal, and out of how many."""
    truth_units = pytrac_encode(pcm)
    truth = unpack_units(truth_units)
    counts = {}
    for preset, (encoder, dtype) in chains.items():
        with torch.no_grad():
            units = to_units(encoder(torch.from_numpy(pcm)[None].to(dtype)))[0]
        ours = unpack_units(units)
        carried = np.arange(52) < np.minimum(ours.n_bfu, truth.n_bfu)[..., None]
        filled = has_bits(ours) | has_bits(truth)
        same = per_value(ours.idwl == truth.idwl, truth.bsm) & filled
        off = np.abs(ours.quantized - truth.quantized)
        for name, equal in {
            "units": (units == truth_units).all(-1),
            "block modes": (ours.bsm == truth.bsm).all(-1),
            "idsf": (ours.idsf == truth.idsf)[carried],
            "idwl": (ours.idwl == truth.idwl)[carried],
            "quantized": (off == 0)[filled],
            "quantized, word lengths equal": (off == 0)[same],
            "quantized, word lengths equal and up to 10 bits": (off == 0)[
                same & (per_value(truth.idwl, truth.bsm) < 10)
            ],
            "quantized within 1, word lengths equal": (off <= 1)[same],
        }.items():
            counts[f"{preset}: {name}"] = int(equal.sum()), equal.size
    batch = from_units(truth_units)
    outside, theirs = ffmpeg_decode(to_aea(batch)), pytrac_decode(truth_units)
    with torch.no_grad():
        exact, standard = (build_decoder(name)(batch).numpy() for name in ("bitexact", "standard"))
    counts["decoder bitexact: samples equal to pytrac's"] = int((exact == theirs).sum()), theirs.size
    counts["decoder bitexact: samples within 1e-6 of FFmpeg's"] = (
        int((np.abs(exact - outside) <= 1e-6).sum()),
        exact.size,
    )
    counts["decoder standard: samples within 1e-5 of FFmpeg's"] = (
        int((np.abs(standard - outside) <= 1e-5).sum()),
        exact.size,
    )
    return counts


def per_value(per_bfu: NDArray[Any], bsm: NDArray[np.integer]) -> NDArray[Any]:
    """Give each coefficient, in spectrum order, the value of its BFU."""
    expanded: NDArray[Any] = BfuLayout().expand(torch.from_numpy(per_bfu), torch.from_numpy(bsm)).numpy()
    return expanded


def has_bits(fields: UnitArrays) -> NDArray[np.bool_]:
    """Tell which coefficients have bits, in spectrum order."""
    return per_value(fields.idwl > 0, fields.bsm)


def main() -> None:
    """Compare every recording of a folder; print rows and totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write the totals here")
    args = parser.parse_args()
    load_pytrac()
    chains = encoders()
    equal: Counter[str] = Counter()
    total: Counter[str] = Counter()
    files = sorted(f for f in args.folder.rglob("*") if f.suffix.lower() in SUFFIXES)
    for file in files:
        pcm = read_audio(file)
        counts = compare(np.pad(pcm, ((0, 0), (0, 512 * frames_for(pcm.shape[1]) - pcm.shape[1]))), chains)
        print(file.name, *(f"{100 * a / max(n, 1):.2f}" for a, n in counts.values()), flush=True)
        for name, (a, n) in counts.items():
            equal[name] += a
            total[name] += n
    print(f"\n{len(files)} recordings")
    for name in equal:
        print(f"{name:52} {equal[name]:>11} / {total[name]:<11} {100 * equal[name] / total[name]:.4f} %")
    if args.json:
        args.json.write_text(json.dumps({name: [equal[name], total[name]] for name in equal}, indent=1) + "\n")


if __name__ == "__main__":
    main()
