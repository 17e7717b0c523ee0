"""Extraction: from a folder of recordings to shards of ground truth, one folder per split.

What each shard will hold is fixed before the first is written, by the manifest and the settings alone. So any number
of processes can share the work, a finished shard is never made again, and whatever was interrupted gives the same
bytes when it is run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream import frames_for
from atrac_bitstream.tables import FRAME_SAMPLES, SAMPLE_RATE
from atrac_codec import AudioReader, read_audio
from atrac_codec import __version__ as codec_version
from atrac_data.augmentation import Augmentation
from atrac_data.errors import DataError
from atrac_data.fields import check_fields
from atrac_data.manifest import SPLITS, Manifest, Recording
from atrac_data.shards import RUN_FRAMES, Shard, ShardWriter, index_of, runs_of, write_whole
from atrac_data.teacher import Teacher

SETTINGS_FILE: Final = "extraction.json"
CHUNK_FRAMES: Final = 8 * RUN_FRAMES
"""Frames that the teacher gets at a time."""


@dataclass(frozen=True)
class Settings:
    """What decides which bytes an extraction writes, besides the recordings and the teacher.

    Args:
        fields: names of the fields; none for all that the teacher gives.
        shard_seconds: audio that a shard holds at least, in seconds, unless it is the last; recordings are not cut.
        augmentation: what may happen to recordings of the train split before the teacher hears them.
        variants: how often each recording of the train split is taken: once as it is, the other times augmented.
        seed: of the augmentation.

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
            raise ValueError(
                f"variants = {self.variants} with {self.augmentation}: variants from 2 on are the augmented ones, so "
                "one goes with the other"
            )


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

    @property
    def key(self) -> str:
        """What stands for it in the names of samples."""
        return self.recording.key + (f"v{self.variant}" if self.variant else "")


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


def plan(manifest: Manifest, settings: Settings | None = None) -> list[ShardPlan]:
    """Decide what each shard holds; only the headers of the recordings are read.

    Raises:
        AtracError, OSError: a recording cannot be read; it is named.
    """
    settings = settings or Settings()
    plans = []
    for split in SPLITS:
        items = [_item(manifest, recording) for recording in manifest.of(split)]
        variants = range(settings.variants if split == "train" else 1)
        groups: list[list[Item]] = []
        room = 0.0
        for item in (Item(one.recording, variant, one.seconds, one.bytes) for variant in variants for one in items):
            if room <= 0:
                groups.append([])
                room = settings.shard_seconds
            groups[-1].append(item)
            room -= item.seconds
        plans += [ShardPlan(f"{split}/{split}-{i:06d}.tar", tuple(group)) for i, group in enumerate(groups)]
    return plans


def extract(
    manifest: Manifest,
    teacher: Teacher,
    output: str | Path,
    settings: Settings | None = None,
    *,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[float], None] = lambda seconds: None,
) -> list[Path]:
    """Write every shard that is not finished yet, of those that fall to this rank.

    Args:
        manifest: the recordings.
        teacher: who shows the fields.
        output: folder, made if it is missing; a folder for each split comes into it.
        settings: default: all fields, no augmentation.
        rank: number of this process, 0 .. world - 1.
        world: number of processes that share the work.
        progress: is told the seconds of audio of each finished recording.

    Returns:
        The shards written now.

    Raises:
        DataError: the folder holds an extraction of other recordings, by another teacher, with other settings, or by
            another version of the codec; or a finished shard and its index do not fit.
        ValueError: the teacher does not give a field, or rank is not below world.
        AtracError, OSError: a recording cannot be read, or a shard not be written.
    """
    settings, output = settings or Settings(), Path(output)
    if not 0 <= rank < world:
        raise ValueError(f"rank = {rank}, allowed 0..{world - 1}")
    fields = settings.fields or teacher.fields
    if unknown := [name for name in fields if name not in teacher.fields]:
        raise ValueError(f"fields {', '.join(unknown)}: teacher {teacher.name} does not give them")
    plans = plan(manifest, settings)
    about = {
        "teacher": teacher.name,
        "atrac_codec": codec_version,
        "sample_rate": SAMPLE_RATE,
        "settings": {**asdict(settings), "fields": list(fields)},
    }
    _claim(output, {**about, "shards": {one.path: _digest(one) for one in plans}})
    written = []
    for one in plans[rank::world]:
        path = output / one.path
        if path.exists() and index_of(path).exists():
            Shard(path)
            progress(one.seconds)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with ShardWriter(path, fields, about) as writer:
            for item in one.items:
                _add(writer, manifest, teacher, item, settings)
                progress(item.seconds)
        written.append(path)
    return written


def _add(writer: ShardWriter, manifest: Manifest, teacher: Teacher, item: Item, settings: Settings) -> None:
    """Have one recording explained by the teacher, and its runs written."""
    recording, mixed_with, licence = item.recording, "", item.recording.licence
    with contextlib.ExitStack() as stack:
        if item.variant:
            pcm, fellow = _varied(manifest, item, settings)
            blocks: Iterable[NDArray[np.float32]] = [pcm]
            if fellow:
                mixed_with = fellow.path
                licence = " and ".join(sorted({licence, fellow.licence}))
        else:
            blocks = stack.enter_context(AudioReader(manifest.folder / recording.path)).blocks()
        first = 0
        for run in runs_of(teacher.frames(_chunks(blocks, recording.path))):
            writer.add(recording.path, item.key, licence, first, run, variant=item.variant, mixed_with=mixed_with)
            first += next(iter(run.values())).shape[1]


def _chunks(blocks: Iterable[NDArray[np.float32]], name: str) -> Iterator[NDArray[np.float32]]:
    """Yield samples in chunks of whole frames, with silence until the codec has given back the last of them."""
    size = CHUNK_FRAMES * FRAME_SAMPLES
    rest: NDArray[np.float32] | None = None
    samples = 0
    for block in blocks:
        samples += block.shape[1]
        rest = block if rest is None else np.concatenate([rest, block], axis=1)
        while rest.shape[1] >= size:
            yield rest[:, :size]
            rest = rest[:, size:]
    if rest is None or not samples:
        raise DataError(f"{name}: no samples at {SAMPLE_RATE} Hz, allowed 1 and more")
    missing = frames_for(samples, multiple=1) * FRAME_SAMPLES - samples
    padded = np.pad(rest, ((0, 0), (0, missing)))
    for start in range(0, padded.shape[1], size):
        yield padded[:, start : start + size]


def _varied(manifest: Manifest, item: Item, settings: Settings) -> tuple[NDArray[np.float32], Recording | None]:
    """Read a recording and augment it; what is mixed in, if anything, is another recording of the same split."""
    recording = item.recording
    digest = hashlib.sha256(f"{settings.seed}/{item.variant}/{recording.path}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    change = settings.augmentation.draw(rng)
    pcm = read_audio(manifest.folder / recording.path)
    fellows = [one for one in manifest.of(recording.split) if one.path != recording.path]
    if change.mix_level is None or not fellows:
        return replace(change, mix_level=None).apply(pcm), None
    fellow = fellows[int(rng.integers(len(fellows)))]
    return change.apply(pcm, read_audio(manifest.folder / fellow.path)), fellow


def _claim(output: Path, about: dict[str, Any]) -> None:
    """Write down what an extraction is of, or see that the folder holds the same one."""
    file = output / SETTINGS_FILE
    text = json.dumps(about, ensure_ascii=False, sort_keys=True, indent=1) + "\n"
    if not file.exists():
        output.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another rank was first, and tidied up
            write_whole(file, text.encode())
    if (found := file.read_bytes().decode(errors="replace")) != text:
        raise DataError(f"{file}: the folder holds another extraction: {_difference(found, about)}")
    for stale in output.glob(f".{file.stem}.*.part"):
        stale.unlink(missing_ok=True)


def _difference(found: str, about: dict[str, Any]) -> str:
    """Say what is not the same in two claims."""
    try:
        there, here = json.loads(found), json.loads(json.dumps(about))
        if there["shards"] == here["shards"] or there["settings"] != here["settings"]:
            there, here = ({**claim, **claim["settings"], "settings": "", "shards": ""} for claim in (there, here))
            return ", ".join(f"{name} {there[name]}, not {here[name]}" for name in here if there[name] != here[name])
    except (ValueError, TypeError, KeyError):
        return "its settings cannot be read"
    return "of other recordings, licences or splits"


def _digest(one: ShardPlan) -> str:
    items = [[i.recording.path, i.recording.licence, i.variant, i.seconds, i.bytes] for i in one.items]
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16]


def _item(manifest: Manifest, recording: Recording) -> Item:
    path = manifest.folder / recording.path
    with AudioReader(path) as reader:
        return Item(recording, 0, reader.duration, path.stat().st_size)
