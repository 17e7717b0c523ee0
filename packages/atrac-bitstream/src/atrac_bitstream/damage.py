"""Damaged sound units: where they are, and how to replace them.

Sound units have no check sum. Damage shows only where a unit cannot be read (an undefined block size mode, word lengths
that need more bits than there are) or is incomplete; every readable unit passes, whatever it sounds like.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.errors import SoundUnitError, TruncatedError
from atrac_bitstream.sound_unit import SoundUnit
from atrac_bitstream.tables import FRAME_SAMPLES, N_BANDS, N_BFU_MAX


@dataclass(frozen=True)
class Damage:
    """A sound unit that cannot be read.

    Args:
        frame: counted from 0.
        channel: 0 left or mono, 1 right.
        reason: what was found, and what is allowed.
        cut: whether the file ends before it, or within.
    """

    frame: int
    channel: int
    reason: str
    cut: bool = False

    def __str__(self) -> str:
        return f"frame {self.frame}, channel {self.channel}: {self.reason}"


class DamagePolicy(ABC):
    """What to do with a damaged sound unit."""

    @abstractmethod
    def replace(self, damage: Damage, before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Return the sound unit to use instead, one that can be read, or raise.

        Args:
            damage: the place, and what is wrong.
            before: what was used for the frame before on this channel, None for the first.

        Shape: before [212] -> [212]
        """


@final
class RaiseDamage(DamagePolicy):
    """Raise a `SoundUnitError` that names the place, or a `TruncatedError` if the file is cut."""

    def replace(self, damage: Damage, before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Raise."""
        raise (TruncatedError if damage.cut else SoundUnitError)(str(damage))


@final
class SilenceDamage(DamagePolicy):
    """Replace a damaged sound unit by silence. Its neighbours fade to it over the overlap of 32 samples."""

    def replace(self, damage: Damage, before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Return a silent sound unit."""
        return SILENT_UNIT


@final
class RepeatDamage(DamagePolicy):
    """Repeat the last good sound unit of the channel; before the first one there is silence."""

    def replace(self, damage: Damage, before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Return the sound unit before."""
        return SILENT_UNIT if before is None else before


_NOTHING = (0,) * N_BFU_MAX
SILENT_UNIT: Final = np.frombuffer(
    SoundUnit((0,) * N_BANDS, 20, _NOTHING, _NOTHING, (0,) * FRAME_SAMPLES).pack(),
    np.uint8,
)
"""The bytes of a sound unit with long blocks and no values, [212]."""

POLICIES: Final[dict[str, type[DamagePolicy]]] = {
    "raise": RaiseDamage,
    "silence": SilenceDamage,
    "repeat": RepeatDamage,
}
"""The policies by the names that command lines use."""


def describe_damage(damages: Sequence[Damage], most: int = 10) -> str:
    """Say in words how many sound units are damaged, and name the first ones.

    Example:
        >>> describe_damage([Damage(3, 0, "bsm[0] = 1, allowed 0 (long) and 2 (short)")])
        '1 (frame 3, channel 0: bsm[0] = 1, allowed 0 (long) and 2 (short))'
    """
    named = [str(damage) for damage in damages[:most]]
    if more := len(damages) - len(named):
        named.append(f"and {more} more")
    return f"{len(damages)} ({'; '.join(named)})" if named else "0"
