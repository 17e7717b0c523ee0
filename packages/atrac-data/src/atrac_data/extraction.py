"""Extraction: from a folder of recordings to shards of ground truth, one folder per split.

What each shard will hold is fixed before the first is written, by the manifest and the settings alone. So any number
of processes can share the work, a finished shard is never made again, and whatever was interrupted gives the same
bytes when it is run again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import write_whole
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import AudioReader, read_audio
from atrac_codec import __version__ as codec_version
from atrac_codec.chunks import padded_chunks
from atrac_data.augmentation import Augmentation
from atrac_data.errors import DataError
from atrac_data.fields import Frames, check_fields
from atrac_data.manifest import SPLITS, Manifest, Recording
from atrac_data.shards import RUN_FRAMES, Run, Shard, index_of, write_shard
from atrac_data.teacher import Teacher

SETTINGS_FILE: Final = "extraction.json"


@dataclass(frozen=True)
class Settings:
    """What decides which bytes an extraction writes, besides the recordings and the teacher.

    Args:
        fields: names of the fields to write; none for all that the teacher gives.
        shard_seconds: audio that a shard holds at least, in seconds, unless it is the last; recordings are not cut.
        augmentation: random changes of recordings of the train split, before the teacher gets them.
        variants: how often each recording of the train split is taken: once as it is, the other times augmented.
        seed: seed of the augmentation.

    Raises:
        ValueError: a setting is outside its range, or there are variants without augmentation or the reverse.
    """

    fields: tuple[str, ...] = ()
    shard_seconds: float = 60.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    variants: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self.fields)
        if not self.shard_seconds > 0:
            raise ValueError(f"shard_seconds = {self.shard_seconds}, allowed above 0")
        if self.variants < 1:
            raise ValueError(f"variants = {self.variants}, allowed 1 and more")
        if (self.variants > 1) != self.augmentation.changes:
            needs = "needs `augmentation` when `variants` > 1, and the other way round"
            raise ValueError(f"variants = {self.variants} with {self.augmentation}: {needs}")


DEFAULT: Final = Settings()
"""All fields, no augmentation."""


@dataclass(frozen=True)
class Item:
    """One recording as it goes into a shard.

    Args:
        recording: which.
        variant: 0 for the recording as it is, else the number of the augmented one.
        seconds: its length.
        bytes: the size of its file.
    """

    recording: Recording
    variant: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class ShardPlan:
    """What one shard will hold.

    Args:
        path: relative to the output folder.
        items: recordings, in order.
    """

    path: str
    items: tuple[Item, ...]

    @property
    def seconds(self) -> float:
        """Audio it will hold, seconds."""
        return sum(item.seconds for item in self.items)


def plan(manifest: Manifest, settings: Settings = DEFAULT) -> list[ShardPlan]:
    """Decide what each shard holds; only the headers of the recordings are read.

    Raises:
        AtracError, OSError: a recording cannot be read; it is named.
    """
    plans = []
    for split in SPLITS:
        items = [_item(manifest, recording) for recording in manifest.of(split)]
        groups: list[list[Item]] = []
        room = 0.0
        for variant in range(settings.variants if split == "train" else 1):
            for item in items:
                if room <= 0:
                    groups.append([])
                    room = settings.shard_seconds
                groups[-1].append(replace(item, variant=variant))
                room -= item.seconds
        plans += [ShardPlan(f"{split}/{split}-{i:06d}.tar", tuple(group)) for i, group in enumerate(groups)]
    return plans


def _item(manifest: Manifest, recording: Recording) -> Item:
    path = manifest.folder / recording.path
    with AudioReader(path) as reader:
        return Item(recording, 0, reader.duration, path.stat().st_size)


def extract(
    manifest: Manifest,
    teacher: Teacher,
    output: str | Path,
    settings: Settings = DEFAULT,
    *,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[float], None] = lambda seconds: None,
) -> list[Path]:
    """Write every shard that is not finished yet, of those that fall to this rank.

    Args:
        manifest: the recordings.
        teacher: gives the fields.
        output: folder, made if it is missing; a folder for each split comes into it.
        settings: default: all fields, no augmentation.
        rank: number of this process, 0 .. world - 1.
        world: number of processes that share the work.
        progress: called with the seconds of each finished recording.

    Returns:
        The shards written now. A process that works alone also removes what killed ones have left; where several do,
        call `remove_unfinished` when all are done.

    Raises:
        DataError: the folder holds an extraction of other recordings, by another teacher, with other settings, or by
            another version of the codec; or a finished shard and its index do not fit.
        ValueError: the teacher does not give a field, or rank is not below world.
        AtracError, OSError: a recording cannot be read, or a shard not be written.
    """
    output = Path(output)
    if not 0 <= rank < world:
        raise ValueError(f"rank = {rank}, allowed 0..{world - 1}")
    fields = settings.fields or teacher.fields
    if unknown := [name for name in fields if name not in teacher.fields]:
        raise ValueError(f"fields {', '.join(unknown)}: teacher {teacher.name} does not give them")
    plans = plan(manifest, settings)
    about = {"teacher": teacher.name, "atrac_codec": codec_version, "sample_rate": SAMPLE_RATE}
    about |= asdict(replace(settings, fields=fields))
    _claim(output, {**about, "recordings": _digest(plans)})
    written = []
    for one in plans[rank::world]:
        path = output / one.path
        if path.exists() and index_of(path).exists():
            Shard(path)
            progress(one.seconds)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_shard(path, fields, about, _samples(manifest, teacher, one.items, settings, progress))
        written.append(path)
    if world == 1:
        remove_unfinished(output)
    return written


def remove_unfinished(output: Path) -> None:
    """Remove the temporary files that killed processes left in an extraction; no process may be writing there."""
    for path in (*output.glob(".*.part"), *output.glob("*/.*.part")):
        path.unlink(missing_ok=True)


def _samples(
    manifest: Manifest,
    teacher: Teacher,
    items: Iterable[Item],
    settings: Settings,
    progress: Callable[[float], None],
) -> Iterator[tuple[Run, Frames]]:
    """Have recordings encoded and decoded by the teacher, and yield their runs."""
    for item in items:
        recording, variant = item.recording, item.variant
        licence, mixed_with, blocks = recording.licence, "", _blocks(manifest.folder / recording.path)
        if variant:
            pcm, added = _augmented(manifest, item, settings)
            blocks = iter([pcm])
            if added:
                mixed_with = added.path
                licence = " and ".join(sorted({licence, added.licence}))
        key, first = recording.key + (f"v{variant}" if variant else ""), 0
        for chunk in teacher.frames(_chunks(blocks, recording.path)):
            channels, frames = next(iter(chunk.values())).shape[:2]
            for start in range(0, frames, RUN_FRAMES):
                run = {name: array[:, start : start + RUN_FRAMES] for name, array in chunk.items()}
                n = min(RUN_FRAMES, frames - start)
                name = f"{key}-{first // RUN_FRAMES:06d}"
                yield Run(name, recording.path, licence, first, n, channels, variant, mixed_with), run
                first += n
        progress(item.seconds)


def _blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    with AudioReader(path) as reader:
        yield from reader.blocks()


def _chunks(blocks: Iterable[NDArray[np.float32]], name: str) -> Iterator[NDArray[np.float32]]:
    """Yield samples in chunks of whole frames, with silence until the codec has returned the last of them."""
    chunk = None
    for chunk, _ in padded_chunks(blocks):
        yield chunk
    if chunk is None:
        raise DataError(f"{name}: no samples at {SAMPLE_RATE} Hz, allowed 1 and more")


def _augmented(manifest: Manifest, item: Item, settings: Settings) -> tuple[NDArray[np.float32], Recording | None]:
    """Read a recording and augment it; what is mixed in, if anything, is another recording of the same split."""
    recording = item.recording
    digest = hashlib.sha256(f"{settings.seed}/{item.variant}/{recording.path}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    change = settings.augmentation.draw(rng)
    pcm = read_audio(manifest.folder / recording.path)
    others = [other for other in manifest.of(recording.split) if other.path != recording.path]
    if change.mix_level is None or not others:
        return replace(change, mix_level=None).apply(pcm), None
    added = others[int(rng.integers(len(others)))]
    return change.apply(pcm, read_audio(manifest.folder / added.path)), added


def _claim(output: Path, about: dict[str, Any]) -> None:
    """Write down what an extraction is of, or make sure that the folder holds the same one."""
    file = output / SETTINGS_FILE
    text = json.dumps(about, ensure_ascii=False, indent=1) + "\n"
    if not file.exists():
        output.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
    here = json.loads(text)
    try:
        there = {name: value for name, value in json.loads(file.read_bytes()).items() if name in here}
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file}: no JSON object: {error}") from error
    if differing := [f"{name} {there.get(name)}, not {here[name]}" for name in here if there.get(name) != here[name]]:
        raise DataError(f"{file}: the folder holds another extraction: {', '.join(differing)}")


def _digest(plans: list[ShardPlan]) -> str:
    """Return what tells one choice of recordings, with split, licence and length, from another."""
    items = [[one.path, i.recording.path, i.recording.licence, i.seconds, i.bytes] for one in plans for i in one.items]
    return f"{len(items)} of digest {hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16]}"
