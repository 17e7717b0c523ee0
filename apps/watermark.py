"""Train a watermark through the codec layer until it survives ATRAC1, and prove it on files that FFmpeg decodes.

    python apps/watermark.py [FILE] [--steps N] [--bits N] [--preset NAME|FOLDER] [--output FOLDER] [--seed N]

    message, sound ─embed→ marked ─NNFullCodec, frozen→ decoded ─read→ logits;  loss = cross entropy + weight x NMR

Embedder and reader start as noise and learn from each other, from built-in sounds. They are tested on sounds of other
seeds, or on the first 30 s of FILE. The same pair is trained without the codec too: it hides its mark where nobody
hears it, and that is what ATRAC1 throws away. The folder gets marked sounds, their .aea files, FFmpeg's decoding of
them, the trained pair, all numbers in results.json, and a picture.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import soundfile
import torch
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
from atrac_train.pictures.codec import spectrogram

Sounds = dict[str, Tensor]
"""Waves [1, C, N] by name."""
Point = dict[str, float]
"""Step, loss and share of bits read right."""
N_FFT, HOP = 1024, 512
FLOOR = 1e-3
"""Level of a bin, in sums of windowed samples, that counts as silence: -114 dB of full scale."""
LEVEL = -35.0
"""Power of a mark in dB of the sound's: quieter than what ATRAC1 itself adds to most sounds."""
TRAINING_SEEDS, TEST_SEEDS = range(100, 106), range(3)
SECONDS, LONGEST = 3.0, 30.0
"""Length of a built-in sound, and the most that is taken of FILE."""
BATCH, EXCERPT = 12, 22050
"""Sounds in a step, and samples of each."""
MESSAGES = 3
"""Different messages that each sound is tested with."""
LEARNING_RATE, AUDIBILITY = 1e-2, 0.003
"""AUDIBILITY is the weight of a dB of noise-to-mask ratio."""
WITHOUT, THROUGH = "trained without the codec", "trained through the codec"
TRAINING_EAR = EarModel(n_fft=1024, bands_per_bark=2, spreading="fixed", forward_masking=False)
"""A quick ear to train on; results are by the standard's."""


class Watermark(nn.Module):
    """Hides messages in sounds, and reads them.

    level    = magnitude of the sound's spectrum, averaged over 9 bins
    evidence = sum over channels and frames of <spectrum / level, template of each bit>, by the root of their number
    mark     = level x sum over bits of ±softplus(reserve ∓ evidence) carrier, at `loudness` below the sound

    So the mark follows the sound, a bit that the sound happens to say already costs little, and any length will do.
    The reader has to know where the sound begins, to a few samples.

    Args:
        bits: length of a message.
        generator: source of the noise that carriers and templates start as.

    Shape:  wave [B, C, N], message [B, bits] of 0 and 1 -> marked [B, C, N], logits [B, bits]
    """

    window: Tensor

    def __init__(self, bits: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        shape = (bits, N_FFT // 2 + 1, 2)  # real and imaginary
        self.carriers = nn.Parameter(0.03 * torch.randn(shape, generator=generator))
        self.templates = nn.Parameter(0.03 * torch.randn(shape, generator=generator))
        self.reserve = nn.Parameter(torch.tensor(3.0))
        self.loudness = LEVEL
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def embed(self, wave: Tensor, message: Tensor) -> Tensor:
        """Hide a message in each sound."""
        _, level = self._spectrum(wave)
        sign = 2 * message - 1
        amount = sign * F.softplus(self.reserve - sign * self.read(wave))
        carrier = torch.einsum("bk,kfr->bfr", amount, self.carriers)
        spectrum = level * torch.view_as_complex(carrier)[:, None, :, None]
        mark = torch.istft(spectrum.flatten(0, 1), N_FFT, HOP, window=self.window, length=wave.shape[-1])
        mark = mark.view_as(wave)
        power = [x.square().sum((1, 2), keepdim=True) for x in (wave, mark)]
        return wave + mark * (10 ** (self.loudness / 10) * power[0] / (power[1] + 1e-12)).sqrt()

    def read(self, wave: Tensor) -> Tensor:
        """Read what each sound says: logits, above 0 for a 1."""
        spectrum, level = self._spectrum(wave)
        flat = (spectrum / level).transpose(1, 2).flatten(2)
        return torch.einsum("bfr,kfr->bk", torch.view_as_real(flat.sum(2) / flat.shape[2] ** 0.5), self.templates)

    def _spectrum(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectrum and level [B, C, bins, frames]."""
        flat = wave.flatten(0, 1)
        spectrum = torch.stft(flat, N_FFT, HOP, window=self.window, pad_mode="constant", return_complex=True)
        spectrum = spectrum.unflatten(0, wave.shape[:2])
        return spectrum, F.avg_pool2d(spectrum.abs(), (9, 1), 1, (4, 0), count_include_pad=False) + FLOOR


@dataclass(frozen=True)
class Scores:
    """What a pair does on the test sounds: shares of bits read right, and how loud its marks are in dB."""

    uncoded: float
    layer: float
    ffmpeg: float
    snr: float
    nmr: float


def train(
    watermark: Watermark, chain: nn.Module, codec: NNFullCodec, steps: int, seed: int, sounds: Sounds, title: str
) -> list[Point]:
    """Train a pair to be read after `chain`.

    Args:
        watermark: the pair.
        chain: what a marked sound goes through before it is read: the codec, or nothing.
        codec: what it goes through for the curve, whatever the chain.
        steps: optimizer steps.
        seed: of excerpts and messages.
        sounds: for the curve, [1, C, N] each.
        title: what the progress bar says.

    Returns:
        About 15 points of the curve: loss of the training, share of bits read right after the codec.
    """
    generator = torch.Generator().manual_seed(seed)
    corpus = torch.stack([built_in(name, seed) for seed in TRAINING_SEEDS for name in NAMES]).to(watermark.window)
    optimizer = torch.optim.Adam(watermark.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses, curve = [], []
    for step in track(range(1, steps + 1), title, console=Console(stderr=True)):
        which = torch.randint(len(corpus), (BATCH,), generator=generator).tolist()
        starts = torch.randint(corpus.shape[-1] - EXCERPT + 1, (BATCH,), generator=generator).tolist()
        wave = torch.cat([corpus[i, ..., start : start + EXCERPT] for i, start in zip(which, starts)])
        message = draw_messages(watermark, BATCH, generator)
        marked = watermark.embed(wave, message)
        error = F.binary_cross_entropy_with_logits(watermark.read(chain(marked)), message)
        loss = error + AUDIBILITY * nmr(marked[:, 0], wave[:, 0], ear=TRAINING_EAR)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % max(1, steps // 15) == 0:
            right = probe(watermark, codec, sounds, seed)
            curve.append({"step": step, "loss": sum(losses) / len(losses), "right": right})
            losses.clear()
    return curve


@torch.no_grad()
def probe(watermark: Watermark, codec: NNFullCodec, sounds: Sounds, seed: int) -> float:
    """Return the share of bits read right after the codec, of a message in each sound."""
    generator = torch.Generator().manual_seed(seed)
    shares = []
    for wave in sounds.values():
        message = draw_messages(watermark, 1, generator)
        shares.append(share_right(watermark.read(codec(watermark.embed(wave, message))), message))
    return sum(shares) / len(shares)


def draw_messages(watermark: Watermark, n: int, generator: torch.Generator) -> Tensor:
    """Draw messages. Shape: [n, bits]."""
    return torch.randint(2, (n, len(watermark.carriers)), generator=generator).to(watermark.carriers)


def share_right(logits: Tensor, message: Tensor) -> float:
    """Return the share of bits that are read right."""
    return ((logits > 0) == (message > 0.5)).double().mean().item()


@torch.no_grad()
def prove(watermark: Watermark, codec: NNFullCodec, sounds: Sounds, seed: int, folder: Path | None = None) -> Scores:
    """Mark sounds, write real files, decode them by FFmpeg, and read; keep what the first messages made."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for name, sound in sounds.items():
        wave = sound.expand(MESSAGES, -1, -1)
        message = draw_messages(watermark, MESSAGES, generator)
        marked = watermark.embed(wave, message)
        decoded, batch = codec(marked, return_batch=True)
        files = codec.to_bytes(batch, wave.shape[-1], title=name)
        played = [ffmpeg_decode(aea)[:, CODEC_DELAY:][:, : wave.shape[-1]] for aea in files]
        outside = torch.stack([torch.from_numpy(pcm) for pcm in played]).to(wave)
        right = [share_right(watermark.read(x), message) for x in (marked, decoded, outside)]
        rows.append([*right, *(loss(marked, wave).item() for loss in (snr, nmr))])
        if folder:
            (folder / f"{name}.aea").write_bytes(files[0])
            write(folder / f"{name}.marked.wav", marked[0])
            write(folder / f"{name}.ffmpeg.wav", outside[0])
    return Scores(*torch.tensor(rows, dtype=torch.float64).mean(0).tolist())


def built_in(name: str, seed: int) -> Tensor:
    """Return a built-in sound [1, 1, N]."""
    return torch.from_numpy(render(name, seconds=SECONDS, seed=seed, channels=1))[None]


def write(path: Path, wave: Tensor) -> None:
    """Write a wave [C, N]."""
    soundfile.write(path, wave.T.cpu().numpy(), SAMPLE_RATE, "FLOAT")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="audio file to mark; default: built-in sounds")
    parser.add_argument("--steps", type=int, default=300, help="of each of the two trainings (%(default)s)")
    parser.add_argument("--bits", type=int, default=16, help="of a message (%(default)s)")
    parser.add_argument("--preset", default=DEFAULT, help="encoder, by name or folder (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("watermark-output"), help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of noise, excerpts and messages (%(default)s)")
    args = parser.parse_args(argv)
    for name in ("steps", "bits"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}, allowed from 1 on")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Train with and without the codec, prove both, print and draw; return the exit code."""
    args = arguments(argv)
    try:
        codec = NNFullCodec.from_pretrained(args.preset).requires_grad_(False)
        if not codec(torch.zeros(1, 1, 512, requires_grad=True)).requires_grad:
            raise ValueError(f"preset {args.preset!r} has no gradient to train through")
        if args.file:
            pcm = read_audio(args.file)[:, : int(LONGEST * SAMPLE_RATE)]
            sounds = {args.file.stem: torch.from_numpy(pcm)[None]}
        else:
            sounds = {f"{name}-{seed}": built_in(name, seed) for seed in TEST_SEEDS for name in NAMES}
        args.output.mkdir(parents=True, exist_ok=True)
    except (AtracError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # Block modes are decided as ever; but in near silence their slopes are so large that they drown all others.
    codec.encoder.transient.register_forward_hook(lambda stage, bands, bsm: bsm.detach())

    untrained, without, through = (Watermark(args.bits, torch.Generator().manual_seed(args.seed)) for _ in range(3))
    few = dict(list(sounds.items())[: len(NAMES)])
    curves = {
        title: train(watermark, chain, codec, args.steps, args.seed, few, title)
        for title, watermark, chain in ((WITHOUT, without, nn.Identity()), (THROUGH, through, codec))
    }
    scores = {
        "untrained": prove(untrained, codec, sounds, args.seed),
        WITHOUT: prove(without, codec, sounds, args.seed),
        THROUGH: prove(through, codec, sounds, args.seed, args.output),
    }
    without.loudness += scores[THROUGH].nmr - scores[WITHOUT].nmr
    scores[f"{WITHOUT}, then as audible as the one through it"] = prove(without, codec, sounds, args.seed)
    save_file(through.state_dict(), args.output / "watermark.safetensors")
    numbers = {"scores": {title: asdict(score) for title, score in scores.items()}, "curves": curves}
    (args.output / "results.json").write_text(json.dumps(numbers, indent=1) + "\n")

    table = Table("bits read right, in %", "not coded", "ATRAC1, layer", "ATRAC1, FFmpeg", "SNR dB", "NMR dB")
    for title, score in scores.items():
        shares = (f"{100 * share:.1f}" for share in (score.uncoded, score.layer, score.ffmpeg))
        table.add_row(title, *shares, f"{score.snr:.1f}", f"{score.nmr:.1f}")
    Console().print(table)
    n = len(sounds) * MESSAGES * args.bits
    print(f"{n} bits in {len(sounds)} sounds; SNR and NMR are of the mark. Everything is in {args.output}/")
    name, wave = next(iter(sounds.items()))
    draw(name, wave, {WITHOUT: without, THROUGH: through}, curves, args.output / "watermark.png")
    return 0


@torch.no_grad()
def draw(name: str, wave: Tensor, pairs: dict[str, Watermark], curves: dict[str, list[Point]], picture: Path) -> None:
    """Draw spectrograms of a sound and its mark, the curves of the trainings, and where the carriers lie."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(14, 9), layout="constrained")
    watermark = pairs[THROUGH]
    mark = watermark.embed(wave, torch.ones(1, len(watermark.carriers)).to(wave)) - wave
    for axis, (title, sound) in zip(axes[:, 0], ((name, wave), ("its mark", mark))):
        extent = (0, sound.shape[-1] / SAMPLE_RATE, 0, SAMPLE_RATE / 2000)
        levels = spectrogram(sound[0, 0].cpu().numpy())
        image = axis.imshow(levels, origin="lower", aspect="auto", extent=extent, vmin=-130, vmax=0, cmap="magma")
        axis.set(title=title, xlabel="seconds", ylabel="kHz")
        figure.colorbar(image, ax=axis, label="dB of full scale")
    for title, watermark in pairs.items():
        points = curves[title]
        axes[0, 1].plot([p["step"] for p in points], [100 * p["right"] for p in points], label=title)
        strength = watermark.carriers.square().sum((0, 2)).unfold(0, 9, 1).mean(-1).sqrt()
        kilohertz = torch.linspace(0, SAMPLE_RATE / 2000, N_FFT // 2 + 1)[4:-4]
        axes[1, 1].plot(kilohertz, (strength / strength.square().mean().sqrt()).cpu(), label=title)
    axes[0, 1].set(title="bits read right after ATRAC1", xlabel="step", ylabel="%", ylim=(40, 102))
    axes[1, 1].set(title="carriers, relative to the sound's own level", xlabel="kHz", ylabel="strength", ylim=(0, None))
    for axis in axes[:, 1]:
        axis.legend()
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
