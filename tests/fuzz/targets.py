"""What to try any bytes on, and what has to hold whatever they are.

    python tests/fuzz/targets.py NAME FILE...

runs a target on files, such as those that `nox -s fuzz` leaves when a target fails. Each target takes bytes, and raises
(an assertion, or what should not have escaped) if something is wrong.
"""

from __future__ import annotations

import io
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from atrac_bitstream import (
    AeaHeader,
    AeaReader,
    AtracError,
    Damage,
    DamagePolicy,
    RaiseDamage,
    RepeatDamage,
    SilenceDamage,
    SoundUnit,
    SoundUnitError,
    find_damage,
    pack_units,
    read_info,
    repair_file,
    unpack_units,
)
from atrac_codec import build_decoder, decode_file
from atrac_codec.audio import AudioError, AudioReader

GOLDEN = Path(__file__).parents[2] / "packages/atrac-bitstream/tests/golden/units.npz"
DECODERS = [build_decoder(name) for name in ("standard", "bitexact")]
POLICIES = (RaiseDamage(), SilenceDamage(), RepeatDamage())
HEADERS = [AeaHeader.make(channels, title="none of its own") for channels in (1, 2)]


class Sips(io.RawIOBase):
    """A file that cannot seek and gives a few bytes at a time, as pipes do."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self._sizes = itertools.cycle((1, 211, 2047, 4096))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        most = next(self._sizes)
        return self._file.read(most if size < 0 else min(size, most))


def sound_unit(data: bytes) -> None:
    """A sound unit is read or refused, never anything else; one at a time and many at once say the same."""
    assert len(data) == 212 or _unpacked(data) == f"a sound unit of {len(data)} bytes, allowed 212"
    units = np.frombuffer(data[: len(data) // 212 * 212], np.uint8).reshape(-1, 212)
    each = [_unpacked(raw.tobytes()) for raw in units]
    good = [unit for unit in each if isinstance(unit, SoundUnit)]
    wrong = {(place,): why for place, why in enumerate(each) if isinstance(why, str)}
    assert find_damage(units) == wrong
    refused = [f"{why} (sound unit {list(place)})" for place, why in wrong.items()][:1]
    try:
        unpack_units(units)
        assert not refused
    except SoundUnitError as error:
        assert [str(error)] == refused  # noqa: PT017
    fields = unpack_units(np.delete(units, [place for (place,) in wrong], axis=0))
    for name, values in fields._asdict().items():
        assert [np.array(v).tolist() for v in values] == [np.array(getattr(u, name)).tolist() for u in good]
    bare = [SoundUnit(u.bsm, u.n_bfu, u.idwl, u.idsf, u.quantized).pack() for u in good]
    assert pack_units(*fields).tobytes() == b"".join(bare)


def _unpacked(raw: bytes) -> SoundUnit | str:
    """Read a sound unit, or return why it cannot be read."""
    try:
        unit = SoundUnit.unpack(raw)
    except SoundUnitError as error:
        return str(error)
    assert unit.pack() == raw
    return unit


def aea(data: bytes) -> None:
    """A file is read the same in blocks of any size, mended into what can be read, repaired once and for all.

    Its last byte picks whether to expect a header, and the size of a block.
    """
    header = (None, *HEADERS)[data[-1] % 3] if data else None
    try:
        AeaHeader(header.data if header else data)
    except AtracError as error:
        for read in (AeaReader, read_info, lambda file: repair_file(file, io.BytesIO(), SilenceDamage())):
            try:
                raise AssertionError(f"read in spite of its header: {read(Sips(data))}")  # type: ignore[arg-type]
            except AtracError as again:
                assert str(again) == str(error)  # noqa: PT017
        return
    raised, silenced, repeated = (_read_aea(data, policy, header) for policy in POLICIES)
    assert [str(damage) for damage in silenced[1][:1]] == ([raised] if isinstance(raised, str) else [])
    assert silenced[1] == repeated[1]
    _read_aea(data, None, header)
    for mend in (SilenceDamage(), RepeatDamage()):
        _repair(data, mend, header)
    info, whole = (read_info(io.BytesIO(data), block, header=header) for block in (3, 4096))
    assert info == whole
    assert sum(info.n_bfu_counts.values()) == info.frames * info.channels - len(info.damages)
    assert np.isfinite([*info.short_share, info.mean_value_bits, info.duration]).all()
    assert all(text for name, text in info.lines() if name != "title")


def _read_aea(data: bytes, policy: DamagePolicy | None, header: AeaHeader | None) -> Any:
    """Read a file at once and in sips, hold the two together, and return units and damages, or why it is refused."""
    results: list[str | tuple[bytes, list[Damage]]] = []
    for file, block in ((io.BytesIO(data), -1), (Sips(data), 1 + data[-1] % 7 if data else 1)):
        try:
            with AeaReader(file, policy, header=header) as reader:  # type: ignore[arg-type]
                parts = [reader.read()] if block < 0 else list(reader.blocks(block))
                units = np.concatenate([np.zeros((0, reader.channels, 212), np.uint8), *parts])
        except AtracError as error:
            assert policy is None or isinstance(policy, RaiseDamage)
            results.append(str(error))
            continue
        assert reader.position == len(units)
        body = data if header else data[2048:]
        if policy is None:
            assert units.tobytes() == body
        else:
            unpack_units(units)
            assert not reader.damages or not isinstance(policy, RaiseDamage)
            kept = np.frombuffer(body.ljust(units.size, b"\0"), np.uint8).reshape(units.shape)
            whole = len(body) // 212  # sound units that are all there
            cut = {divmod(unit, reader.channels) for unit in range(whole, units.size // 212)}
            damaged = {(damage.frame, damage.channel): damage.cut for damage in reader.damages}
            assert damaged == dict.fromkeys(find_damage(kept), False) | dict.fromkeys(cut, True)
            good = np.ones(units.shape[:2], bool)
            if damaged:
                good[tuple(zip(*damaged, strict=True))] = False
            assert np.array_equal(units[good], kept[good])
        results.append((units.tobytes(), reader.damages))
    assert isinstance(results[0], str) == isinstance(results[1], str)
    assert isinstance(results[0], str) or results[0] == results[1]
    return results[0]


def _repair(data: bytes, policy: DamagePolicy, header: AeaHeader | None) -> None:
    once, twice = io.BytesIO(), io.BytesIO()
    report = repair_file(Sips(data), once, policy, header=header, block=3)  # type: ignore[arg-type]
    once.seek(0)
    again = repair_file(once, twice, RaiseDamage())
    assert once.getvalue() == twice.getvalue()
    assert not again.damages
    assert again.unit_count_before == again.unit_count == report.unit_count
    with AeaReader(io.BytesIO(once.getvalue())) as reader:
        assert len(unpack_units(reader.read()).n_bfu) == report.frames == again.frames


def decode(data: bytes) -> None:
    """A file decodes to finite samples, as many as the report says. Its last byte picks the options."""
    options = data[-1] if data else 0
    target = io.BytesIO()
    try:
        report = decode_file(
            io.BytesIO(data),
            target,
            DECODERS[options >> 3 & 1],
            samples="16" if options & 16 else "float",
            keep_delay=bool(options & 1),
            damage=RepeatDamage() if options & 2 else SilenceDamage(),
            header=HEADERS[options >> 5 & 1] if options & 4 else None,
        )
    except AtracError:
        return
    assert report.channels in (1, 2)
    pcm, rate = soundfile.read(io.BytesIO(target.getvalue()), dtype="float32", always_2d=True)
    assert pcm.shape == (report.samples, report.channels)
    assert rate == 44100
    assert np.isfinite(pcm).all()


def audio(data: bytes) -> None:
    """Audio in any format is read as finite samples, or refused."""
    try:
        with AudioReader(io.BytesIO(data)) as reader:
            assert isinstance(reader.title, str)
            assert reader.duration > 0
            for block in itertools.islice(reader.blocks(), 8):
                assert block.dtype == np.float32
                assert len(block) == reader.channels
                assert block.size
                assert np.isfinite(block).all()
    except (AudioError, OSError):
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "sound_unit": sound_unit,
    "aea": aea,
    "decode": decode,
    "audio": audio,
}


def seeds(name: str) -> Iterator[bytes]:
    """Yield what a target's bytes usually look like: golden sound units, AEA files of them, audio files."""
    with np.load(GOLDEN) as file:
        golden = [file[key] for key in file.files if key.endswith(".sound_units")]
    if name == "sound_unit":
        yield from (unit.tobytes() for units in golden for unit in units.reshape(-1, 212)[::3])
        yield from (units[:2].tobytes() for units in golden)
    elif name == "audio":
        yield from _audio_files()
    else:
        for k, units in enumerate(golden):
            header = AeaHeader.make(units.shape[1], units.shape[0] * units.shape[1], f"seed {k}", (None, 700)[k % 2])
            yield header.data + units[:4].tobytes()
            yield units[:4].tobytes()


def changed(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, insert, remove or repeat some bytes; or end early."""
    result = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        place, end = sorted(rng.integers(0, len(result) + 1, 2).tolist())
        kind = rng.integers(8)
        if kind < 4 and place < len(result):
            result[place] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
        elif kind == 4:
            result[place:place] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 5:
            del result[place : min(end, place + 16)]
        elif kind == 6:
            result[place:place] = result[place:end]
        elif kind == 7:
            del result[end:]
    return bytes(result)


def _audio_files() -> Iterator[bytes]:
    pcm = 0.3 * np.sin(np.arange(400) / 9)
    for container, subtypes in {
        "WAV": ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"),
        "WAVEX": ("PCM_16", "FLOAT"),
        "RF64": ("PCM_16",),
        "W64": ("PCM_24",),
        "AIFF": ("PCM_16", "PCM_S8", "FLOAT"),
        "AU": ("PCM_16",),
        "CAF": ("PCM_16", "ALAC_16"),
        "VOC": ("PCM_16",),
        "SVX": ("PCM_16",),
        "FLAC": ("PCM_16", "PCM_24"),
        "OGG": ("VORBIS", "OPUS"),
        "MP3": ("MPEG_LAYER_III",),
    }.items():
        for k, subtype in enumerate(subtypes):
            if not soundfile.check_format(container, subtype):
                continue
            file, rate = io.BytesIO(), 48000 if subtype == "OPUS" else (44100, 8000)[k % 2]
            channels = 1 if container == "SVX" or subtype == "GSM610" else 1 + k % 2
            with soundfile.SoundFile(file, "w", rate, channels, subtype, format=container) as out:
                if container in ("AIFF", "FLAC", "OGG") or (container, subtype) == ("WAV", "PCM_24"):
                    out.title = f"{container} {subtype}"
                out.write(np.stack([pcm] * channels, 1))
            yield file.getvalue()


def main() -> None:
    """Run a target on files; what is wrong is raised."""
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\nNAME is one of {', '.join(TARGETS)}")
    warnings.simplefilter("error")
    for path in sys.argv[2:]:
        TARGETS[sys.argv[1]](Path(path).read_bytes())
        print(f"{path}: as it should be")


if __name__ == "__main__":
    main()
