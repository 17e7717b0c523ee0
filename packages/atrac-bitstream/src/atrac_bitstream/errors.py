"""Errors found in data, with one root so that a caller needs one `except`.

Behind a format boundary only these and `OSError` escape. Wrong arguments are `ValueError` or `TypeError`.
"""

from __future__ import annotations


class AtracError(Exception):
    """Data that the format does not allow."""


class SoundUnitError(AtracError):
    """A sound unit holds a field that the format does not allow."""


class AeaError(AtracError):
    """A file is not an AEA file, or its header cannot be used."""


class TruncatedError(AeaError):
    """A file ends in the middle of a header, a sound unit or a frame."""
