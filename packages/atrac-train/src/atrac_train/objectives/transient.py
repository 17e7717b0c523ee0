"""Transient detector: the decision itself is learned, not the way to it.

Few frames of recordings are short, and fewer lie near a threshold. Training makes more. In some items of recordings
the levels of stretches of 16 to 128 samples jump up and down. Others are probes, in each band:
a steady tone and one whose level jumps, so that which of them the detector hears tells how it filters, or clicks in
noise, which tell when. The teacher decides on what comes out.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import softplus

from atrac_modules import BitExactQmf, BitExactTransient, NeuralTransient
from atrac_train.detection import band_rates, count
from atrac_train.objective import Objective, Scores, Tensors

FRAME: Final = 512
DRAWS: Final = 3
"""Offsets and gains at which evaluation looks at each recording."""
GAIN: Final = (-50.0, 6.0)
"""dB."""
JUMP: Final = 40.0
"""dB between the loudest and the softest stretch."""
PROBE: Final = 70.0
"""dB by which one part of a probe may be softer than another."""
NEAR: Final = 4.0
"""How much more steeply than the decision the largest change is told from the others."""
CLICKS: Final = 1 / 150
"""Clicks for each sample of a band."""
CLICK: Final = (18.0, 40.0)
"""Level of a click over the noise around it, dB of amplitude; 29 are just enough."""


class TransientObjective(Objective):
    """pcm -> bsm, through the teacher's filter bank; frame 0 of an item, whose past is missing, is left out.

    Args:
        jumps: share of recordings whose level is made to jump.
        probes: share of items that are probes.
        smear: what it costs that a band's filters are not all alike.
    """

    fields = ("pcm",)
    frames: int = 16

    def __init__(self, model: dict[str, Any], jumps: float = 0.3, probes: float = 0.5, smear: float = 0.02) -> None:
        super().__init__()
        self.jumps, self.probes, self.smear = jumps, probes, smear
        self.stage, self.qmf, self.teacher = NeuralTransient(**model), BitExactQmf(), BitExactTransient()

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        pcm = batch["pcm"].flatten(-2)
        if not self.training:
            pcm = pcm.repeat(DRAWS, 1)
        gain = torch.empty(len(pcm), 1).uniform_(*GAIN, generator=generator).to(pcm)
        pcm = pcm * 10 ** (gain / 20)
        if self.training:
            pcm = pcm * self._jumps(pcm.shape, generator).to(pcm)
        if pcm.shape[-1] > FRAME:
            offset = torch.randint(FRAME, (len(pcm),), generator=generator).tolist()
            pcm = torch.stack([row[start : start + len(row) - FRAME] for row, start in zip(pcm, offset, strict=True)])
        bands = self.qmf(pcm)
        if self.training:
            probed = torch.rand(len(bands), 1, 1, generator=generator) < self.probes
            bands = torch.where(probed.to(bands.device), self._probes(bands.shape, generator).to(bands), bands)
        return {"bands": bands, "bsm": self.teacher(bands)}

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        short = example["bsm"][..., 1:, :] > 0
        # Any block of a frame makes it short: all that lie near the threshold count, not the largest alone.
        excess = torch.stack(
            [
                (beyond[..., 1:, :] * NEAR * steepness).logsumexp(-1) / NEAR
                for beyond, steepness in zip(
                    self.stage.excess(example["bands"]), self.stage.steepness.exp(), strict=True
                )
            ],
            -1,
        )
        decision = softplus(torch.where(short, -excess, excess)).sum() / max(short.numel(), 1)
        # Filters that differ in more than their gain smear the power over time: all had better be one.
        products = self.stage.filters @ self.stage.filters.transpose(1, 2)
        energy = products.diagonal(dim1=1, dim2=2).sum(-1)
        smear = (1 - products.square().sum((1, 2)) / energy.square()).mean()
        return {"loss": decision + self.smear * smear, "decision": decision}

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        short = example["bsm"][..., 1:, :] > 0
        found = self.stage(example["bands"])[..., 1:, :] > 0
        return count(found, short)

    def scores(self, sums: Tensors) -> Scores:
        return {f"{rate} {band}": value for band, own in band_rates(sums).items() for rate, value in own.items()}

    def _jumps(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Draw gains for every item and sample; 1 where nothing jumps."""
        items, samples = shape
        length = 2 ** int(torch.randint(4, 8, (), generator=generator))
        gains = _jumping(items, samples, length, generator)
        return torch.where(torch.rand(items, 1, generator=generator) < self.jumps, gains, 1.0)

    def _probes(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Draw bands of a steady tone and one that jumps, or of clicks in noise. Shape: [B, F, 512]."""
        items, frames, _ = shape
        bands = []
        for size in (128, 128, 256):
            time = torch.arange(frames * size)
            pitch, phase = torch.rand(2, 2, items, 1, generator=generator)
            steady, jumping = (math.pi * pitch * time + 7 * phase).sin()
            length = int(torch.randint(5, 150, (), generator=generator))
            jumping = jumping * _jumping(items, len(time), length, generator)
            noise = torch.randn(items, len(time), generator=generator)
            parts = torch.stack([steady, jumping, 0.1 * noise])
            softer = 10 ** (-PROBE / 20 * torch.rand(len(parts), items, 1, generator=generator))
            tones = (softer * parts).sum(0)
            loud = 10 ** (torch.empty(items, 1).uniform_(*CLICK, generator=generator) / 20)
            clicks = torch.rand(items, len(time), generator=generator) < CLICKS
            clicking = noise + loud * clicks * noise.sign()
            bands.append(torch.where(torch.rand(items, 1, generator=generator) < 0.5, tones, clicking))
        return torch.cat([band.reshape(items, frames, -1) for band in bands], -1)


def _jumping(items: int, samples: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw gains that jump every so many samples. Shape: [items, samples]."""
    levels = JUMP * torch.rand(items, samples // length + 1, generator=generator)
    return 10 ** (-levels.repeat_interleave(length, -1)[:, :samples] / 20)
