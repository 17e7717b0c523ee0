"""Everybody at one recording: encoders, decoders, measures and judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from atrac_bitstream import CODEC_DELAY, AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import read_audio
from atrac_train.evaluation.coders import Decode, Encode
from atrac_train.evaluation.content import SPEECH
from atrac_train.evaluation.judges import Bench
from atrac_train.evaluation.outside import ProgramError
from atrac_train.evaluation.pictures import Version, draw_recording, read_version
from atrac_train.evaluation.report import ORIGINAL, Media, flac
from atrac_train.evaluation.results import Item, Row, labels
from atrac_train.evaluation.scores import bits_of, score, speech_score
from atrac_train.tracking import plain

Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Pending:
    """A row, and what judges still owe it."""

    row: Row
    owed: Mapping[str, Future[float]] = field(default_factory=dict)

    def settle(self) -> Row:
        """Wait for the judges; a judge that fails leaves null, and why."""
        scores, missing = dict(self.row.scores), dict(self.row.missing)
        for name, future in self.owed.items():
            try:
                scores[name] = future.result()
            except (ProgramError, OSError) as error:
                scores[name], missing[name] = None, str(error)
        return replace(self.row, scores=scores, missing=missing)


@dataclass(frozen=True)
class Panel:
    """Who takes part.

    Args:
        encoders, decoders: by name.
        bench: the judges.
        speech: scores that speech gets too.
        scratch: folder for files on the way.
        shown: seconds of a recording to keep for a report; 0 for nothing.
    """

    encoders: Mapping[str, Encode]
    decoders: Mapping[str, Decode]
    bench: Bench
    speech: Sequence[str]
    scratch: Path
    shown: float = 0.0

    def prepare(self, pcm: Sound) -> tuple[Path, Sound]:
        """Return what all encoders get: a 16-bit WAV file, and its samples. Shape: [C, N]. Raises: OSError."""
        wav = self.scratch / "in.wav"
        soundfile.write(wav, np.clip(pcm, -1, 32767 / 32768).T, SAMPLE_RATE, "PCM_16")
        return wav, read_audio(wav)

    def measure(self, item: Item, wav: Path, original: Sound) -> tuple[list[Pending], Media | None]:
        """Encode a recording with each encoder, measure what each decoder makes of it. Raises: OSError."""
        pending: list[Pending] = []
        versions: list[Version] = []
        for name, encode in self.encoders.items():
            aea = wav.with_suffix(".aea")
            aea.unlink(missing_ok=True)
            rows = [Row(item.path, name, decoder, {}, {}, None, None) for decoder in self.decoders]
            try:
                encode(wav, aea)
                bits = bits_of(aea)
            except (AtracError, OSError) as error:
                pending += [Pending(replace(row, error=str(error))) for row in rows]
                continue
            for row in rows:
                try:
                    decoded = self.decoders[row.decoder](aea)[:, CODEC_DELAY:]
                    if len(decoded) != len(original) or not decoded.shape[1]:
                        raise ValueError(f"decoded to {list(decoded.shape)}, the original is {list(original.shape)}")
                except Exception as error:  # an outside decoder's refusal is a result, of whatever kind
                    failed = f"{type(error).__name__}: {error}"
                    pending.append(Pending(replace(row, bits=bits, error=failed)))
                    continue
                n = min(original.shape[1], decoded.shape[1])
                pending.append(self._scored(replace(row, bits=bits), item, original[:, :n], decoded[:, :n]))
                if self.shown:
                    version = labels([(e, d) for e in self.encoders for d in self.decoders])[name, row.decoder]
                    versions.append(read_version(version, decoded, aea, self.shown))
        return pending, self._media(item, original, versions) if versions else None

    def _scored(self, row: Row, item: Item, original: Sound, decoded: Sound) -> Pending:
        owed = self.bench.submit(original, decoded)
        scores: dict[str, float | None] = plain(score(original, decoded))
        missing = {name: "not finite" for name, value in scores.items() if value is None}
        if item.kind == SPEECH:
            for name in self.speech:
                scores[name] = plain(speech_score(name, original, decoded))
                if scores[name] is None:
                    missing[name] = "too little speech"
        return Pending(replace(row, scores=scores, missing=missing), owed)

    def _media(self, item: Item, original: Sound, versions: Sequence[Version]) -> Media:
        """Draw and keep the beginning of a recording, as far as all versions have it."""
        n = min(original.shape[1], *(version.sound.shape[1] for version in versions))
        picture = draw_recording(item.path, original[:, :n], versions, self.scratch / "picture.png")
        sounds = {ORIGINAL: original[:, :n]} | {version.name: version.sound[:, :n] for version in versions}
        return Media(item.path, {name: flac(sound) for name, sound in sounds.items()}, picture.read_bytes())
