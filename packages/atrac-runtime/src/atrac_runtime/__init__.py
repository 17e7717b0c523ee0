"""What ATRAC1 needs to be fast without torch: compiled loops on NumPy arrays."""

from atrac_runtime.__about__ import __version__

__all__ = ["__version__"]
