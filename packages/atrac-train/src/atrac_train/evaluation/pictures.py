"""The picture of what encoders do with their bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from atrac_bitstream.tables import BFU_BANDS, N_BFU_MAX
from atrac_train.evaluation.results import Bits
from atrac_train.pictures.figure import new_figure, save


def draw_bits(bits: Mapping[str, Bits], picture: Path) -> Path:
    """Draw the mean bits per value in each BFU, a line for each encoder. Raises: OSError."""
    figure = new_figure("Bits per value, mean over sound units", 4)
    axes = figure.subplots()
    for name, one in bits.items():
        axes.stairs(one.word_length, np.arange(N_BFU_MAX + 1) - 0.5, baseline=None, linewidth=1.5, label=name)
    for border in np.flatnonzero(np.diff(BFU_BANDS)):
        axes.axvline(border + 0.5, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(xlabel="BFU, low | mid | high", ylabel="bits", xlim=(-0.5, N_BFU_MAX - 0.5), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, picture)
