"""Augmentation that keeps ground truth true: samples change before the teacher gets them, never after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.tables import FRAME_SAMPLES


@dataclass(frozen=True)
class Change:
    """The change of one recording, see `Augmentation`.

    Args:
        offset: samples dropped at the start.
        gain: dB.
        mix_level: gain of the recording that is mixed in, dB; None mixes nothing.
        mix_start: where in that one to begin, as a share of its length, 0 .. 1.
    """

    offset: int = 0
    gain: float = 0.0
    mix_level: float | None = None
    mix_start: float = 0.0

    def apply(self, pcm: NDArray[np.float32], other: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Change a recording.

        Args:
            pcm: its samples.
            other: the recording to mix in, repeated or cut to length, in mono if the channels differ.

        Shape: pcm [C, N], other [C', M] -> [C, N - offset], at least one sample
        Raises:
            ValueError: there is a mix_level, but no other recording.
        Example:
            >>> moved = Change(offset=436, gain=-6.0).apply(np.ones((1, 1000), np.float32))
            >>> moved.shape, round(float(moved[0, 0]), 4)
            ((1, 564), 0.5012)
        """
        if self.mix_level is not None:
            if other is None or not other.shape[1]:
                raise ValueError("no recording to mix in")
            if len(other) != len(pcm):
                other = other.mean(axis=0, keepdims=True, dtype=np.float32)
            index = (int(self.mix_start * other.shape[1]) + np.arange(pcm.shape[1])) % other.shape[1]
            pcm = pcm + np.float32(10.0 ** (self.mix_level / 20.0)) * other[:, index]
        return pcm[:, min(self.offset, pcm.shape[1] - 1) :] * np.float32(10.0 ** (self.gain / 20.0))


@dataclass(frozen=True)
class Augmentation:
    """Random changes of recordings; by default there are none.

    Args:
        offset: drop a random number of samples, 0 .. 511, at the start, so that frames fall elsewhere.
        gain: range of a random gain, dB (lowest, highest).
        mix: probability of adding another recording.
        mix_level: range of that one's gain, dB.

    Raises:
        ValueError: a range is upside down, or a probability outside 0..1.
    """

    offset: bool = False
    gain: tuple[float, float] = (0.0, 0.0)
    mix: float = 0.0
    mix_level: tuple[float, float] = (-20.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("gain", "mix_level"):
            low, high = getattr(self, name)
            if not (np.isfinite([low, high]).all() and low <= high):
                raise ValueError(f"{name} = ({low}, {high}), allowed finite numbers, the lower one first")
        if not 0.0 <= self.mix <= 1.0:
            raise ValueError(f"mix = {self.mix}, allowed 0..1")

    @property
    def changes(self) -> bool:
        """Whether anything can happen."""
        return self.offset or self.gain != (0.0, 0.0) or self.mix > 0

    def draw(self, rng: np.random.Generator) -> Change:
        """Draw the change of one recording; the number of draws is the same for all settings."""
        offset, mixes, start = int(rng.integers(FRAME_SAMPLES)), rng.random() < self.mix, float(rng.random())
        gain, level = float(rng.uniform(*self.gain)), float(rng.uniform(*self.mix_level))
        return Change(offset * self.offset, gain, level if mixes else None, start)
