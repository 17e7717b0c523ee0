"""What all pictures share: size, colours, levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

TRUTH: Final = "0.55"
OWN: Final = "tab:blue"
ERROR: Final = "tab:red"
_FLOOR: Final = 1e-20
"""Power that stands for nothing where a logarithm needs one: -200 dB."""

Array = NDArray[Any]


def new_figure(title: str, height: float) -> Figure:
    """Return an empty figure, 12 inches and so 1200 pixels wide."""
    figure = Figure(figsize=(12, height), dpi=100, layout="constrained")
    figure.suptitle(title)
    return figure


def save(figure: Figure, picture: Path) -> Path:
    """Write a PNG and its folder. Raises: OSError."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, format="png")
    return picture


def array(tensor: Tensor) -> Array:
    """Return float64 values on the CPU."""
    result: Array = tensor.detach().cpu().double().numpy()
    return result


def decibel(power: Any) -> Array:
    """Return 10 log10, at least -200 dB."""
    level: Array = 10 * np.log10(np.maximum(power, _FLOOR))
    return level


def snr(energy: float, error: float) -> str:
    """Return the signal to noise ratio in words."""
    if not energy:
        return "silence"
    return f"SNR {round(10 * np.log10(energy / error), 1) + 0.0:.1f} dB" if error else "no error"


def say(axes: Any, words: str) -> None:
    """Write words into a diagram that has nothing to show."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color="0.4")
