"""Statistics of the bits that an encoder spends in its sound units: of a file, of several, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atrac_bitstream import AeaReader, unpack_units
from atrac_bitstream import tables as t

Bits = dict[str, Any]
"""Statistics by name, as evaluation.json holds them.

`units` is the number of sound units, and `over_budget` that of units whose values take more bits than an encoder may
fill. The others are means over sound units: `used` and `budget`, the bits of the values and how many there may be;
`n_bfu`; `short_share`, the share of units with short blocks, by band; `word_length`, bits per value, by BFU, 0 where a
unit does not carry the BFU.
"""


def bits_of(aea: Path) -> Bits:
    """Return the statistics of a file. Raises: AtracError, OSError."""
    with AeaReader(aea) as reader:
        fields = unpack_units(reader.read())
    words = t.WORD_LENGTHS[fields.idwl].reshape(-1, t.N_BFU_MAX)
    used = words @ t.BFU_SIZES
    budget = np.array([t.value_bits(n) for n in range(t.N_BFU_MAX + 1)])[fields.n_bfu].ravel()
    return {
        "units": used.size,
        "over_budget": int((used > budget).sum()),
        "used": float(used.mean()),
        "budget": float(budget.mean()),
        "n_bfu": float(fields.n_bfu.mean()),
        "short_share": (fields.bsm > 0).reshape(-1, t.N_BANDS).mean(0).tolist(),
        "word_length": words.mean(0).tolist(),
    }


def total_bits(files: Sequence[Bits]) -> Bits:
    """Combine the statistics of one or more files: sums of sound units, means over all sound units."""
    counts = {name: sum(one[name] for one in files) for name in ("units", "over_budget")}
    units = [one["units"] for one in files]
    means = ("used", "budget", "n_bfu", "short_share", "word_length")
    return counts | {name: np.average([one[name] for one in files], 0, units).tolist() for name in means}


def draw_bits(bits: Mapping[str, Bits], picture: Path) -> Path:
    """Draw the mean bits per value in each BFU, a line for each encoder. Raises: OSError."""
    from atrac_train.pictures.figure import new_figure, save  # loads matplotlib

    figure = new_figure("Bits per value, mean over sound units", 4)
    axes = figure.subplots()
    for name, one in bits.items():
        edges = np.arange(t.N_BFU_MAX + 1) - 0.5
        axes.stairs(one["word_length"], edges, baseline=None, linewidth=1.5, label=name)
    for border in np.flatnonzero(np.diff(t.BFU_BANDS)):
        axes.axvline(border + 0.5, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(xlabel="BFU, low | mid | high", ylabel="bits", xlim=(-0.5, t.N_BFU_MAX - 0.5), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, picture)
