"""Compare encoders, or decoders, on recordings: every encoder's files through every decoder, in numbers.

    python apps/evaluate.py FOLDER [-o OUT] [--encoder NAME …] [--decoder NAME …] [--peer 'NAME=COMMAND {in} {out}' …]

Encoders are presets and codec folders, peers outside programs that make an AEA file {out} of a 16-bit WAV file {in}.
Decoders are `ffmpeg` (the default: nobody marks his own exam), ours by name, and codec folders. Everybody gets the
same 16-bit samples at 44.1 kHz. Of FOLDER the recordings of one split are taken. The first pair of encoder and decoder
is what the others are held against: means, and how many recordings they win. OUT gets all numbers in evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from atrac_bitstream import CODEC_DELAY, AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import DEFAULT, read_audio
from atrac_data import SPLITS, scan
from evaluation.coders import FFMPEG, Encode, decoder, peer_encoder, preset_encoder
from evaluation.scores import SCORES, mean, score, unit_counts
from training.tracking import plain

Row = dict[str, Any]
"""Encoder, decoder, recording, and scores by name; or what went wrong, by `error`."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="recordings, with a split.json or none")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, default=Path("evaluation"), help="(%(default)s)")
    parser.add_argument("--encoder", metavar="NAME", action="append", default=[], help=f"preset or folder ({DEFAULT})")
    parser.add_argument("--decoder", metavar="NAME", action="append", default=[], help=f"or folder ({FFMPEG})")
    parser.add_argument("--peer", metavar="NAME=COMMAND", action="append", default=[], help="outside encoder")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="test", help="(%(default)s)")
    parser.add_argument("--shortest", metavar="S", type=float, default=0.0, help="seconds a recording must have (all)")
    parser.add_argument("--longest", metavar="S", type=float, default=0.0, help="seconds taken of a recording (all)")
    parser.add_argument("--device", default="cpu", help="where our encoders and decoders run (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Encode, decode, measure, print; the exit code is 1 if something could not be coded."""
    args = arguments(argv)
    try:
        device = torch.device(args.device)
        encoders = {name: preset_encoder(name, device) for name in args.encoder or ([] if args.peer else [DEFAULT])}
        encoders |= dict(peer_encoder(text) for text in args.peer)
        decoders = {name: decoder(name, device) for name in args.decoder or [FFMPEG]}
        manifest = scan(args.folder)
        chosen = manifest.recordings if args.split == "all" else manifest.of(args.split)
        rows: list[Row] = []
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with (
            Progress(*columns, console=Console(stderr=True), transient=True) as progress,
            tempfile.TemporaryDirectory() as scratch,
        ):
            task = progress.add_task("recordings", total=len(chosen))
            for recording in chosen:
                pcm = read_audio(args.folder / recording.path)
                progress.advance(task)
                if pcm.shape[1] < args.shortest * SAMPLE_RATE or not pcm.size:
                    continue
                if args.longest:
                    pcm = pcm[:, : int(args.longest * SAMPLE_RATE)]
                wav = Path(scratch) / "in.wav"
                soundfile.write(wav, np.clip(pcm, -1, 32767 / 32768).T, SAMPLE_RATE, "PCM_16")
                original = read_audio(wav)
                for name, encode in encoders.items():
                    rows += coded(recording.path, original, wav, name, encode, decoders)
    except (AtracError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not rows:
        print(f"error: {args.folder}: no recordings of split {args.split} that are long enough", file=sys.stderr)
        return 1
    args.output.mkdir(parents=True, exist_ok=True)
    target = args.output / "evaluation.json"
    target.with_suffix(".part").write_text(json.dumps(plain(rows), indent=1, allow_nan=False) + "\n")
    os.replace(target.with_suffix(".part"), target)
    wrong = [row for row in rows if "error" in row]
    for row in wrong:
        print(f"{row['recording']}, {row['encoder']} to {row['decoder']}: {row['error']}", file=sys.stderr)
    show(rows)
    print(target)
    return int(bool(wrong))


def coded(
    recording: str, original: np.ndarray, wav: Path, name: str, encode: Encode, decoders: dict[str, Any]
) -> list[Row]:
    """Encode a recording once and measure what each decoder makes of it."""
    aea = wav.with_suffix(".aea")
    aea.unlink(missing_ok=True)
    about = {"recording": recording, "encoder": name, "seconds": round(original.shape[1] / SAMPLE_RATE, 3)}
    try:
        encode(wav, aea)
        counts = unit_counts(aea)
    except (AtracError, OSError) as error:
        return [about | {"decoder": other, "error": str(error)} for other in decoders]
    rows = []
    for other, decode in decoders.items():
        row = about | {"decoder": other, **counts}
        try:
            decoded = decode(aea)
        except Exception as error:  # an outside decoder's refusal is a result, of whatever kind
            rows.append(row | {"error": f"{type(error).__name__}: {error}"})
            continue
        rows.append(row | score(original, decoded[:, CODEC_DELAY:]))
    return rows


def show(rows: list[Row]) -> None:
    """Print means, wins over the first pair, and counts."""
    pairs = list(dict.fromkeys((row["encoder"], row["decoder"]) for row in rows))
    by_pair = {
        pair: {row["recording"]: row for row in rows if (row["encoder"], row["decoder"]) == pair and "error" not in row}
        for pair in pairs
    }
    recordings = set.intersection(*(set(found) for found in by_pair.values()))
    first = by_pair[pairs[0]]
    table = Table("encoder", "decoder", *SCORES, "units", "over budget", "refused")
    for pair, found in by_pair.items():
        cells = []
        for name, sign in SCORES.items():
            cell = f"{mean([found[r][name] for r in recordings]):.3f}"
            if pair != pairs[0]:
                better = sum(sign * (found[r][name] - first[r][name]) > 0 for r in recordings)
                equal = sum(found[r][name] == first[r][name] for r in recordings)
                cell += f"\n{better} better" + (f", {equal} equal" if equal else "")
            cells.append(cell)
        mine = [row for row in rows if (row["encoder"], row["decoder"]) == pair]
        counts = [f"{sum(row.get(key, 0) for row in mine):,}" for key in ("units", "over budget")]
        table.add_row(*pair, *cells, *counts, str(sum("error" in row for row in mine)))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=160)).print(table)
    print(f"means over {len(recordings)} recordings that all could code; better than the first row in so many of them")


if __name__ == "__main__":
    sys.exit(main())
