"""Count which outside decoders play the files that our presets make of your recordings.

    python tests/against_decoders.py FOLDER [--preset NAME …] [--decoder 'NAME=COMMAND {in} {out}' …] [--json FILE]

Encodes every recording of the folder, and repeats of one of them from 1 sample to 10 minutes, with the default preset
or those named. FFmpeg decodes each file through PyAV; other decoders are commands that make a WAV file {out} of an AEA
file {in}. Counts the files that come out whole, and the largest difference to our standard decoder within full scale.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import Counter
from pathlib import Path

import av
import numpy as np
import soundfile

from atrac_bitstream import AeaReader, unpack_units
from atrac_bitstream import tables as t
from atrac_codec import DEFAULT, build_decoder, build_encoder, decode_file, encode_file, read_audio
from atrac_codec.audio import SUFFIXES
from atrac_codec.outside import ffmpeg_decode
from atrac_train.evaluation.outside import Program, ProgramError
from atrac_train.tracking import write_json

LENGTHS = (1, 2, 245, 246, 247, 511, 512, 513, 3830, 3831, 44100, 600 * 44100)


def main() -> None:
    """Encode everything, decode everything, print and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", action="append", default=[], help=f"encoder ({DEFAULT})")
    parser.add_argument("--decoder", action="append", default=[], help="NAME=COMMAND with {in} and {out}")
    parser.add_argument("--json", type=Path, help="write the counts here")
    args = parser.parse_args()
    programs = [Program.of("--decoder", text, ("in", "out")) for text in args.decoder]
    encoders = {name: build_encoder(name) for name in args.preset or [DEFAULT]}
    files = sorted(f for f in args.folder.rglob("*") if f.suffix.lower() in SUFFIXES)
    counts: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    largest: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch, sources = Path(folder), list(files)
        material = read_audio(max(files, key=lambda f: f.stat().st_size))
        for length in LENGTHS:
            sources.append(scratch / f"{length}.wav")
            soundfile.write(sources[-1], np.resize(material.T, (length, len(material))), 44100)
        for source, encoder in itertools.product(sources, encoders.values()):
            aea, wav = scratch / "x.aea", scratch / "x.wav"
            encode_file(source, aea, encoder)
            decode_file(aea, wav, build_decoder(), samples="float", keep_delay=True)
            ours = read_audio(wav)
            fields = unpack_units(AeaReader(aea).read())
            counts["files"] += 1
            counts["sound units"] += fields.n_bfu.size
            budget = np.vectorize(t.value_bits)(fields.n_bfu)
            counts["sound units over budget"] += int((t.WORD_LENGTHS[fields.idwl] @ t.BFU_SIZES > budget).sum())
            decoded = {f"FFmpeg {av.ffmpeg_version_info} (PyAV)": ffmpeg_decode(aea.read_bytes())}
            for program in programs:
                wav.unlink(missing_ok=True)
                try:
                    program.run(**{"in": aea, "out": wav})
                    decoded[program.name] = soundfile.read(wav, dtype="float32", always_2d=True)[0].T
                except (ProgramError, soundfile.LibsndfileError) as error:
                    print(source, error)
            for name, theirs in decoded.items():
                n = min(theirs.shape[1], ours.shape[1])
                whole[name] += theirs.shape == ours.shape
                pair = (np.clip(pcm[:, :n], -1, 1) for pcm in (theirs, ours))  # as integer samples are
                largest[name] = max(largest.get(name, 0.0), float(np.abs(np.subtract(*pair)).max(initial=0)))
    decoders = {name: {"whole": whole[name], "largest difference": largest[name]} for name in largest}
    report = {"presets": list(encoders), **counts, "decoders": decoders}
    for name, value in report.items():
        print(f"{name:28} {value}")
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
