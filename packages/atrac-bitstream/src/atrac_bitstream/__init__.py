"""Read and write ATRAC1 sound units and AEA files, with NumPy alone."""

from atrac_bitstream.__about__ import __version__
from atrac_bitstream.aea import (
    CODEC_DELAY,
    FRAMES_MULTIPLE,
    AeaReader,
    AeaWriter,
    frames_for,
)
from atrac_bitstream.aea_header import AeaHeader
from atrac_bitstream.arrays import UnitArrays, find_damage, pack_units, unpack_units
from atrac_bitstream.damage import (
    POLICIES,
    SILENT_UNIT,
    Damage,
    DamagePolicy,
    RaiseDamage,
    RepeatDamage,
    SilenceDamage,
    describe_damage,
)
from atrac_bitstream.errors import AeaError, AtracError, SoundUnitError, TruncatedError
from atrac_bitstream.info import AeaInfo, read_info
from atrac_bitstream.repair import RepairReport, repair_file
from atrac_bitstream.sound_unit import SoundUnit
from atrac_bitstream.tables import readable_value_bits, value_bits
from atrac_bitstream.whole_file import WholeFile, write_whole

__all__ = [
    "CODEC_DELAY",
    "FRAMES_MULTIPLE",
    "POLICIES",
    "SILENT_UNIT",
    "AeaError",
    "AeaHeader",
    "AeaInfo",
    "AeaReader",
    "AeaWriter",
    "AtracError",
    "Damage",
    "DamagePolicy",
    "RaiseDamage",
    "RepairReport",
    "RepeatDamage",
    "SilenceDamage",
    "SoundUnit",
    "SoundUnitError",
    "TruncatedError",
    "UnitArrays",
    "WholeFile",
    "__version__",
    "describe_damage",
    "find_damage",
    "frames_for",
    "pack_units",
    "read_info",
    "readable_value_bits",
    "repair_file",
    "unpack_units",
    "value_bits",
    "write_whole",
]
