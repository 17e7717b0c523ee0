"""Hold what the layer gives against FFmpeg's decode of the bytes of the batch it used, on your recordings; by hand.

    python tests/layer_on_recordings.py FOLDER [--preset NAME …] [--split test] [--longest 10]

Each recording goes in twice as a batch of two, the second time backwards; in training and in evaluation mode, plain and
under autocast in bfloat16. Prints the largest difference, which must not exceed 1e-4, and counts sound units.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from atrac_bitstream import CODEC_DELAY
from atrac_codec import ENCODERS, NNFullCodec, read_audio
from atrac_codec.outside import ffmpeg_decode
from atrac_data import scan
from atrac_modules import used_value_bits, value_bits

ALLOWED = 1e-4


def main() -> int:
    """Compare; the exit code is 1 if a difference is too large or a sound unit over budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", action="append", default=[], metavar="NAME")
    parser.add_argument("--split", default="test")
    parser.add_argument("--longest", type=float, default=10.0, help="seconds taken of a recording")
    args = parser.parse_args()
    recordings = scan(args.folder).of(args.split)
    print(f"{len(recordings)} recordings")
    wrong = False
    for preset in args.preset or ENCODERS:
        codec = NNFullCodec.from_pretrained(preset)
        largest, units, over = 0.0, 0, 0
        for recording in recordings:
            pcm = torch.from_numpy(read_audio(args.folder / recording.path)[:, : int(44100 * args.longest)])
            waves = torch.stack([pcm, pcm.flip(-1)])
            for training in (False, True):
                for autocast in (False, True):
                    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.set_grad_enabled(training):
                        decoded, batch = codec.train(training)(waves, return_batch=True)
                    for own, aea in zip(decoded.detach().numpy(), codec.to_bytes(batch), strict=True):
                        outside = ffmpeg_decode(aea)[:, CODEC_DELAY:][:, : own.shape[1]]
                        largest = max(largest, float(np.abs(outside - own).max()))
                    units += batch.n_bfu.numel()
                    over += int((used_value_bits(batch.idwl) > value_bits(batch.n_bfu)).sum())
        print(f"{preset:20} largest difference {largest:.1e}, {units:,} sound units, {over} over budget", flush=True)
        wrong = wrong or largest > ALLOWED or over > 0
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
