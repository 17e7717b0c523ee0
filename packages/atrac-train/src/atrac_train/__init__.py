"""Training and evaluation of learned ATRAC1 stages and codecs."""

from atrac_train.__about__ import __version__

__all__ = ["__version__"]
