"""Compare the quantizer's gradient estimators: what each returns, how true its slope is, and what it is good for.

    python tests/compare_estimators.py

Music of the built-in corpus is encoded by preset `reference`. Then a gain for each BFU is put before the quantizer and
taken off behind it, and the gains are trained to make the squared error smaller, which rounding alone makes smallest
per coefficient but not per BFU. Printed for each estimator: the squared error of what it returns, relative to rounding;
how its slope along the gains, averaged over a twentieth of each gain, correlates with that of the true error there; and
the error, with plain rounding, after 200 steps of Adam.
"""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from atrac_codec import build_encoder
from atrac_data import render
from atrac_modules import BfuLayout, ReferenceQuantizer, Rounding, SoftRounding, StraightThrough, UniformNoise
from atrac_modules.quantizer import Quantizer

STEP = 0.05
STEPS = 200
POINTS = 25


def main() -> None:
    """Print the table."""
    pcm = torch.from_numpy(render("music", seconds=3.0, channels=1))[None, :, : 512 * 256]
    with torch.no_grad():
        encoded = build_encoder("reference").stages(pcm)
    scaled, bsm, idwl = encoded.scaled.flatten(0, 2), encoded.batch.bsm.flatten(0, 2), encoded.batch.idwl.flatten(0, 2)
    layout, levels = BfuLayout(), (2.0 ** torch.arange(16) - 1).clamp_min(1)
    steps = layout.expand(levels[idwl.long()], bsm)
    has_bits = idwl > 0

    def errors(quantizer: Quantizer, gains: Tensor) -> Tensor:
        """Return the squared error of each BFU, in steps."""
        gain = layout.expand(gains, bsm)
        back = quantizer(scaled * gain, idwl, bsm) / (steps * gain)
        return layout.sum(((back - scaled) * steps).square(), bsm) * has_bits

    plain = ReferenceQuantizer()
    ones = torch.ones_like(idwl)
    with torch.no_grad():
        base = errors(plain, ones)
        true = (errors(plain, ones * (1 + STEP / 2)) - errors(plain, ones * (1 - STEP / 2))) / STEP
    estimators: dict[str, Rounding] = {
        "straight-through": StraightThrough(),
        "uniform noise": UniformNoise(torch.Generator().manual_seed(0)),
        "soft rounding, sharpness 1": SoftRounding(1.0),
        "soft rounding, sharpness 4": SoftRounding(4.0),
        "soft rounding, sharpness 10": SoftRounding(10.0),
    }
    table = Table("estimator", "error it returns (dB)", "correlation of slopes", "error after training (dB)")
    for name, rounding in estimators.items():
        quantizer = ReferenceQuantizer(rounding)
        returned = errors(quantizer, ones)
        slope = torch.zeros_like(ones)
        for at in torch.linspace(-STEP / 2, STEP / 2, POINTS):
            gains = (ones + at).requires_grad_()
            slope += torch.autograd.grad(errors(quantizer, gains).sum(), gains)[0] / POINTS
        gains = ones.clone().requires_grad_()
        correlation = torch.corrcoef(torch.stack([slope[has_bits], true[has_bits]]))[0, 1]
        optimizer = torch.optim.Adam([gains], lr=2e-3)
        for _ in range(STEPS):
            optimizer.zero_grad()
            errors(quantizer, gains).sum().backward()
            optimizer.step()
        with torch.no_grad():
            trained = errors(plain, gains)
        columns = (decibel(returned.sum() / base.sum()), f"{correlation:.3f}", decibel(trained.sum() / base.sum()))
        table.add_row(name, *columns)
    Console(width=100).print(table)


def decibel(ratio: Tensor) -> str:
    """Return a ratio of energies in dB."""
    return f"{10 * torch.log10(ratio.detach()).item():.2f}"


if __name__ == "__main__":
    main()
