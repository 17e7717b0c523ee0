"""Sounds to train and test an audio codec with; a built-in corpus needs no download."""

from atrac_data.__about__ import __version__
from atrac_data.corpus import KINDS, NAMES, render
from atrac_data.synthesis import SAMPLE_RATE

__all__ = ["KINDS", "NAMES", "SAMPLE_RATE", "__version__", "render"]
