"""AEA files: a header (`aea_header.py`), then sound units, the channels of a frame one after the other.

Sound units pass through as raw bytes and need not be valid, so copying a file copies every bit of it. A policy
(`damage.py`) can be asked to replace those that cannot be read.
Source: docs/format.md.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO, Final, Self, final

import numpy as np

from atrac_bitstream.aea_header import HEADER_BYTES, AeaHeader
from atrac_bitstream.arrays import Units, find_damage
from atrac_bitstream.damage import Damage, DamagePolicy
from atrac_bitstream.errors import TruncatedError
from atrac_bitstream.tables import FRAME_SAMPLES, SOUND_UNIT_BYTES
from atrac_bitstream.whole_file import PathOrFile, WholeFile

CODEC_DELAY: Final = 266
"""Samples by which encoding and decoding delay the signal, the same for every known encoder and decoder."""
FRAMES_MULTIPLE: Final = 8
"""The 2026 atracdenc decoder aborts on files whose number of frames mod 8 is 6 or 7, or which are shorter."""


@final
class AeaReader:
    """Reads an AEA file as a stream of raw frames.

    Args:
        source: path, or binary file object, which is left open and need not be seekable.
        damage: what to do with sound units that cannot be read or are incomplete. None returns every unit unchanged,
            also unreadable ones, and raises only if the file ends within a frame.
        header: for a file without a header: sound units begin at the first byte, and this stands for the header.

    Raises:
        AeaError, TruncatedError: the header cannot be used.
        OSError: the file cannot be read.

    Example:
        >>> import io
        >>> file = io.BytesIO(AeaHeader.make(channels=2).data + bytes(4 * 212))
        >>> with AeaReader(file) as reader:
        ...     reader.channels, reader.read().shape
        (2, (2, 2, 212))
    """

    def __init__(
        self, source: PathOrFile, damage: DamagePolicy | None = None, *, header: AeaHeader | None = None
    ) -> None:
        self._policy = damage
        self._before: Units | None = None
        self.damages: list[Damage] = []
        """Damage found so far and replaced by the policy."""
        with contextlib.ExitStack() as opened:
            if isinstance(source, str | os.PathLike):
                source = opened.enter_context(open(source, "rb"))
            self._file: BinaryIO = source
            self.header = header or AeaHeader(_read_exactly(self._file, HEADER_BYTES))
            self._opened = opened.pop_all()
        self.channels = self.header.channels
        self.position = 0
        """Frames read so far."""

    def read(self, frames: int = -1) -> Units:
        """Read the next frames, fewer at the end, all that are left for -1.

        Shape: [F, C, 212]
        Raises:
            TruncatedError: the file ends within a frame and no policy is set; the message names the frame. The frames
                before it can be read one by one.
            SoundUnitError: the policy raises it. The next call continues after the frames asked for.
            ValueError: the policy returns something other than a readable sound unit.
        """
        size = self.channels * SOUND_UNIT_BYTES
        data = _read_exactly(self._file, frames * size if frames >= 0 else -1)
        first = self.position
        whole, rest = divmod(len(data), size)
        self.position += whole + bool(rest)
        if rest and self._policy is None:
            raise TruncatedError(
                f"the file ends in frame {first + whole}, after {rest} of {size} bytes "
                f"({self.channels} sound units of {SOUND_UNIT_BYTES} bytes)"
            )
        units = np.frombuffer(data + bytes(-rest % size), np.uint8).reshape(-1, self.channels, SOUND_UNIT_BYTES)
        return units if self._policy is None else self._repaired(units, self._policy, first, rest)

    def _repaired(self, units: Units, policy: DamagePolicy, first: int, rest: int) -> Units:
        """Replace damaged units, and if the last frame has only `rest` bytes, the units that are missing in it."""
        found = {place: Damage(first + place[0], place[1], why) for place, why in find_damage(units).items()}
        whole, part = divmod(rest, SOUND_UNIT_BYTES)
        for channel in range(whole, self.channels if rest else 0):
            present = part if channel == whole else 0
            why, frame = f"the file ends after {present} of {SOUND_UNIT_BYTES} bytes", len(units) - 1
            found[frame, channel] = Damage(first + frame, channel, why, cut=True)
        units = units.copy() if found else units
        for (frame, channel), damage in sorted(found.items()):
            before = units[frame - 1] if frame else self._before
            unit = policy.replace(damage, None if before is None else before[channel].copy())
            if unit.dtype != np.uint8 or unit.shape != (SOUND_UNIT_BYTES,) or find_damage(unit):
                raise ValueError(f"{type(policy).__name__} returned no readable sound unit for {damage}")
            units[frame, channel] = unit
            self.damages.append(damage)
        if len(units):
            self._before = units[-1].copy()
        return units

    def blocks(self, frames: int) -> Iterator[Units]:
        """Yield all frames in blocks of `frames`, the last one shorter; all in one for -1.

        Shape: [frames, C, 212] each
        Raises: ValueError: frames is 0, or below -1; and as `read`.
        """
        if frames == 0 or frames < -1:
            raise ValueError(f"frames = {frames}, allowed -1 and from 1 on")
        while len(units := self.read(frames)):
            yield units

    def close(self) -> None:
        """Close the file if it was opened here."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@final
class AeaWriter:
    """Writes an AEA file as a stream of raw frames, under a temporary name until it is complete.

    The file takes its final name when the writer is closed, or the with block left, without an error; else
    nothing remains. A file object is written to in one go at the end, so it need not be seekable.

    Args:
        target: path, or binary file object, which is left open.
        channels: 1 or 2.
        title: cut at a character to 205 bytes of UTF-8.
        header: write this header as it is (to copy a file bit for bit), and neither title nor length tag.

    Raises:
        AeaError: channels is neither 1 nor 2.
        ValueError: the header given has another number of channels.
        OSError: the file cannot be written.
    """

    def __init__(self, target: PathOrFile, channels: int, title: str = "", *, header: AeaHeader | None = None) -> None:
        if header is not None and header.channels != channels:
            raise ValueError(f"channels = {channels}, but the header given has {header.channels}")
        self._title = title
        self.channels = (header or AeaHeader.make(channels)).channels
        self.header = header
        """The header to write as it is; None makes one with title, count and length tag. Read when closing."""
        self.frames = 0
        """Frames written so far."""
        self.samples: int | None = None
        """PCM samples per channel for the length tag; set it before closing, None writes no tag."""
        self._whole = WholeFile(target)
        try:
            self._file = self._whole.path.open("r+b")
            self._file.seek(HEADER_BYTES)
        except BaseException:
            self._whole.discard()
            raise

    def write(self, units: Units) -> None:
        """Append frames.

        Shape: units [F, C, 212]
        Raises:
            ValueError: shape or dtype is another.
        """
        if units.dtype != np.uint8 or units.shape[1:] != (self.channels, SOUND_UNIT_BYTES):
            expected = f"uint8 [F, {self.channels}, {SOUND_UNIT_BYTES}]"
            raise ValueError(f"units is {units.dtype} {list(units.shape)}, expected {expected}")
        self._file.write(np.ascontiguousarray(units).data)
        self.frames += len(units)

    def close(self) -> None:
        """Complete the header and give the file its name."""
        if self._file.closed:
            return
        try:
            unit_count = self.frames * self.channels
            header = self.header or AeaHeader.make(self.channels, unit_count, self._title, self.samples)
            self._file.seek(0)
            self._file.write(header.data)
            self._file.close()
        except BaseException:
            self.abort()
            raise
        self._whole.commit()

    def abort(self) -> None:
        """Discard what was written so far. After `close` it does nothing."""
        with contextlib.suppress(OSError):  # a full disk may refuse the last flush too
            self._file.close()
        self._whole.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def frames_for(samples: int, multiple: int = FRAMES_MULTIPLE) -> int:
    """Count the frames that carry `samples` PCM samples, not negative, through the codec's delay.

    Args:
        samples: PCM samples per channel.
        multiple: round up to a multiple of this many frames, 1 or more.

    Raises:
        ValueError: an argument is below its range.

    Example:
        >>> frames_for(1), frames_for(44100), frames_for(44100, multiple=1)
        (8, 88, 87)
    """
    if samples < 0 or multiple < 1:
        raise ValueError(f"samples = {samples}, multiple = {multiple}, allowed from 0 and from 1 on")
    frames = -(-(samples + CODEC_DELAY) // FRAME_SAMPLES)
    return -(-frames // multiple) * multiple


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or all there are; pipes and sockets give what they have, so ask again."""
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part) if size > 0 else 0
    return b"".join(parts)
