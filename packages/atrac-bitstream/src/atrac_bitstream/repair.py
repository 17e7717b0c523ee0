"""Repairing AEA files: every sound unit readable, whole frames, a correct count."""

from __future__ import annotations

from dataclasses import dataclass

from atrac_bitstream.aea import AeaReader, AeaWriter
from atrac_bitstream.aea_header import AeaHeader
from atrac_bitstream.damage import Damage, DamagePolicy, describe_damage
from atrac_bitstream.whole_file import PathOrFile


@dataclass(frozen=True)
class RepairReport:
    """What repairing a file did.

    Args:
        frames: frames written.
        unit_count_before: number of sound units as the header stated it.
        unit_count: number of sound units there are.
        damages: the sound units that were replaced, and why.
    """

    frames: int
    unit_count_before: int
    unit_count: int
    damages: tuple[Damage, ...]

    def __str__(self) -> str:
        changed = self.unit_count_before != self.unit_count
        count = f"count {self.unit_count_before} -> {self.unit_count}, " if changed else ""
        return f"{self.frames} frames, {count}sound units replaced: {describe_damage(self.damages)}"


def repair_file(
    source: PathOrFile,
    target: PathOrFile,
    damage: DamagePolicy,
    *,
    header: AeaHeader | None = None,
    block: int = 4096,
) -> RepairReport:
    """Copy an AEA file, replacing unreadable sound units and correcting the count; all else stays, bit for bit.

    Args:
        source: path, or binary file object.
        target: path, replaced if it exists, or binary file object.
        damage: how to replace a damaged sound unit.
        header: the header of a file that has none; it is written before the sound units.
        block: frames read at a time.

    Raises:
        ValueError: block is below 1, or the policy returns something other than a readable sound unit.
        AeaError, TruncatedError: the header cannot be used.
        SoundUnitError: the policy raises it.
        OSError: a file cannot be read or written.
    """
    if block < 1:
        raise ValueError(f"block = {block}, allowed from 1 on")
    with (
        AeaReader(source, damage, header=header) as reader,
        AeaWriter(target, reader.channels, header=reader.header) as writer,
    ):
        for units in reader.blocks(block):
            writer.write(units)
        unit_count = writer.frames * writer.channels
        writer.header = reader.header.with_unit_count(unit_count)
    return RepairReport(writer.frames, reader.header.unit_count, unit_count, tuple(reader.damages))
