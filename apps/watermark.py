"""Train a watermark through the codec layer until it survives ATRAC1, and prove it on files that FFmpeg decodes.

    python apps/watermark.py [FILE] [--steps N] [--bits N] [--preset NAME|FOLDER] [-o FOLDER] [--seed N]

    message, sound ─embed→ marked ─NNFullCodec, frozen→ decoded ─read→ logits;  loss = cross entropy + weight x NMR

Embedder and reader start as noise and are trained together on built-in sounds. They are tested on sounds of other
seeds, or on the first 30 s of FILE. A second pair is trained without the codec: it puts its mark where ATRAC1 removes
it. FOLDER gets the marked sounds, their .aea files, the trained pair, and all numbers in results.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import soundfile
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from atrac_bitstream import CODEC_DELAY, AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import DEFAULT, NNFullCodec, read_audio
from atrac_codec.outside import ffmpeg_decode
from atrac_data import NAMES, render
from atrac_losses import EarModel, nmr, snr
from atrac_train.tracking import write_json

N_FFT, HOP = 1024, 512
LEVEL: float = -35.0
"""Power of a mark in dB of the sound's: quieter than the coding noise of most sounds."""
TRAINING_SEEDS, TEST_SEEDS = range(100, 106), range(3)
SECONDS, LONGEST = 3.0, 30.0
"""Length of a built-in sound, and the longest part of FILE that is used."""
BATCH, EXCERPT = 12, 22050
"""Sounds in a step, and samples of each."""
LEARNING_RATE, AUDIBILITY = 1e-2, 0.003
"""AUDIBILITY is the weight of a dB of noise-to-mask ratio."""
TRAINING_EAR: Final = EarModel(n_fft=1024, bands_per_bark=2, spreading="fixed", forward_masking=False)
"""A fast ear model to train with; results are measured with the standard's."""


@dataclass(frozen=True)
class Arguments:
    """The command line, see its help text."""

    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None
    """Audio file to mark; default: built-in sounds."""
    steps: int = 300
    """Steps of each of the two trainings."""
    bits: int = 16
    """Bits of a message."""
    preset: str = DEFAULT
    """Encoder, by name or folder."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FOLDER")] = Path("watermark-output")
    """Folder for the results."""
    seed: int = 0
    """Seed of noise, excerpts and messages."""


class Watermark(nn.Module):
    """Embeds messages in sounds, and reads them.

    level    = magnitude of the sound's spectrum, averaged over 9 bins
    evidence = sum over channels and frames of <spectrum / level, template of each bit>, by the root of their number
    mark     = level x sum over bits of ±softplus(reserve ∓ evidence) carrier, `LEVEL` dB below the sound

    The mark follows the sound's spectrum, a bit that the sound happens to say already costs little, and sounds may be
    of any length. The reader has to know where the sound begins, to a few samples.

    Args:
        bits: length of a message.
        seed: of the noise that carriers and templates start as.

    Shape:  wave [B, C, N], message [B, bits] of 0 and 1 -> marked [B, C, N], logits [B, bits]
    """

    window: Tensor

    def __init__(self, bits: int, seed: int = 0) -> None:
        super().__init__()
        generator, shape = torch.Generator().manual_seed(seed), (bits, N_FFT // 2 + 1, 2)  # real and imaginary
        self.carriers = nn.Parameter(0.03 * torch.randn(shape, generator=generator))
        self.templates = nn.Parameter(0.03 * torch.randn(shape, generator=generator))
        self.reserve = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def embed(self, wave: Tensor, message: Tensor) -> Tensor:
        """Embed a message in each sound."""
        _, level = self._spectrum(wave)
        sign = 2 * message - 1
        amount = sign * F.softplus(self.reserve - sign * self.read(wave))
        carrier = torch.einsum("bk,kfr->bfr", amount, self.carriers)
        spectrum = level * torch.view_as_complex(carrier)[:, None, :, None]
        mark = torch.istft(spectrum.flatten(0, 1), N_FFT, HOP, window=self.window, length=wave.shape[-1]).view_as(wave)
        power = [x.square().sum((1, 2), keepdim=True) for x in (wave, mark)]
        return wave + mark * (10 ** (LEVEL / 10) * power[0] / (power[1] + 1e-12)).sqrt()

    def read(self, wave: Tensor) -> Tensor:
        """Return logits of each sound's message, above 0 for a 1."""
        spectrum, level = self._spectrum(wave)
        flat = (spectrum / level).transpose(1, 2).flatten(2)
        return torch.einsum("bfr,kfr->bk", torch.view_as_real(flat.sum(2) / flat.shape[2] ** 0.5), self.templates)

    def _spectrum(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectrum and level [B, C, bins, frames]; 0.001, -114 dB of full scale, counts as silence."""
        flat = wave.flatten(0, 1)
        spectrum = torch.stft(flat, N_FFT, HOP, window=self.window, pad_mode="constant", return_complex=True)
        spectrum = spectrum.reshape(*wave.shape[:2], *spectrum.shape[1:])
        return spectrum, F.avg_pool2d(spectrum.abs(), (9, 1), 1, (4, 0), count_include_pad=False) + 1e-3


def train(watermark: Watermark, chain: nn.Module, args: Arguments, title: str) -> Watermark:
    """Train a pair to be read after `chain`, the codec or nothing."""
    generator = torch.Generator().manual_seed(args.seed)
    corpus = torch.stack([built_in(name, seed) for seed in TRAINING_SEEDS for name in NAMES])
    optimizer = torch.optim.Adam(watermark.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    for _ in track(range(args.steps), title, console=Console(stderr=True)):
        which = torch.randint(len(corpus), (BATCH,), generator=generator).tolist()
        starts = torch.randint(corpus.shape[-1] - EXCERPT + 1, (BATCH,), generator=generator).tolist()
        wave = torch.stack([corpus[i, :, start : start + EXCERPT] for i, start in zip(which, starts, strict=True)])
        message = torch.randint(2, (BATCH, args.bits), generator=generator).float()
        marked = watermark.embed(wave, message)
        error = F.binary_cross_entropy_with_logits(watermark.read(chain(marked)), message)
        loss = error + AUDIBILITY * nmr(marked[:, 0], wave[:, 0], ear=TRAINING_EAR)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return watermark


@torch.no_grad()
def prove(
    watermark: Watermark, codec: NNFullCodec, sounds: dict[str, Tensor], seed: int, folder: Path | None
) -> dict[str, float]:
    """Mark sounds, code them to real files, decode these with FFmpeg, and read; return means over the sounds."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for name, wave in sounds.items():
        message = torch.randint(2, (1, len(watermark.carriers)), generator=generator).float()
        marked = watermark.embed(wave[None], message)
        decoded, batch = codec(marked, return_batch=True)
        (aea,) = codec.to_bytes(batch, wave.shape[-1], title=name)
        played = torch.from_numpy(ffmpeg_decode(aea)[:, CODEC_DELAY:][:, : wave.shape[-1]])
        right = [((watermark.read(x) > 0) == (message > 0.5)).float().mean() for x in (marked, decoded, played[None])]
        rows.append([*right, snr(marked, wave[None]), nmr(marked, wave[None])])
        if folder is not None:
            (folder / f"{name}.aea").write_bytes(aea)
            soundfile.write(folder / f"{name}.marked.wav", marked[0].T.numpy(), SAMPLE_RATE, "FLOAT")
    means = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return dict(zip(("not coded", "ATRAC1, layer", "ATRAC1, FFmpeg", "SNR dB", "NMR dB"), means, strict=True))


def built_in(name: str, seed: int) -> Tensor:
    """Return a built-in sound. Shape: [1, N]."""
    return torch.from_numpy(render(name, seconds=SECONDS, seed=seed, channels=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Train with and without the codec, prove both, print; return the exit code."""
    args = tyro.cli(Arguments, args=argv, description=__doc__)
    try:
        if args.steps < 1 or args.bits < 1:
            raise ValueError(f"--steps {args.steps}, --bits {args.bits}: allowed 1 or more")
        codec = NNFullCodec.from_pretrained(args.preset).requires_grad_(False)
        if not codec(torch.zeros(1, 1, 512, requires_grad=True)).requires_grad:
            raise ValueError(f"preset {args.preset!r} has no gradient to train through")
        sounds = {f"{name}-{seed}": built_in(name, seed) for seed in TEST_SEEDS for name in NAMES}
        if args.file:
            sounds = {args.file.stem: torch.from_numpy(read_audio(args.file)[:, : int(LONGEST * SAMPLE_RATE)])}
        args.output.mkdir(parents=True, exist_ok=True)
    except (AtracError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # Block modes are decided as ever, but their slopes in near silence are larger than all others, so they are cut.
    codec.encoder.transient.register_forward_hook(lambda stage, bands, bsm: bsm.detach())
    pairs = {"untrained": Watermark(args.bits, args.seed)}
    chains: dict[str, nn.Module] = {"trained without the codec": nn.Identity(), "trained through the codec": codec}
    for title, chain in chains.items():
        pairs[title] = train(Watermark(args.bits, args.seed), chain, args, title)
    scores: dict[str, dict[str, Any]] = {}
    for title, pair in pairs.items():
        scores[title] = prove(pair, codec, sounds, args.seed, args.output if chains.get(title) is codec else None)
    save_file(pairs["trained through the codec"].state_dict(), args.output / "watermark.safetensors")
    write_json(args.output / "results.json", scores)
    table = Table("bits read right, in %", *scores["untrained"])
    for title, score in scores.items():
        table.add_row(
            title, *(f"{value:.1f}" if "dB" in name else f"{100 * value:.1f}" for name, value in score.items())
        )
    Console().print(table)
    print(
        f"{len(sounds) * args.bits} bits in {len(sounds)} sounds; SNR and NMR are those of the mark; see {args.output}/"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
