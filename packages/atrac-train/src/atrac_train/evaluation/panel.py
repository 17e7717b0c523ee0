"""One recording through all encoders and decoders, with all measures and judges."""

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
from atrac_train.evaluation.judges import JudgePool
from atrac_train.evaluation.kinds import SPEECH
from atrac_train.evaluation.media import ORIGINAL, Media, draw, flac, read_idwl
from atrac_train.evaluation.outside import ProgramError
from atrac_train.evaluation.results import Bits, Item, Row, labels
from atrac_train.evaluation.scores import bits_of, score, speech_score
from atrac_train.tracking import plain

Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Pending:
    """A row whose judges may not have answered yet."""

    row: Row
    answers: Mapping[str, Future[float]] = field(default_factory=dict)

    def settle(self) -> Row:
        """Wait for the judges; where one fails, the score is null and the reason is kept."""
        scores, missing = dict(self.row.scores), dict(self.row.missing)
        for name, future in self.answers.items():
            try:
                scores[name] = future.result()
            except (ProgramError, OSError) as error:
                scores[name], missing[name] = None, str(error)
        return replace(self.row, scores=scores, missing=missing)


@dataclass(frozen=True)
class Panel:
    """The encoders, decoders, measures and judges of an evaluation.

    Args:
        encoders, decoders: by name.
        judges: outside judges.
        speech: names of the measures of speech to take.
        scratch: folder for temporary files.
        shown: seconds of a recording to keep for a report; 0 for none.
    """

    encoders: Mapping[str, Encode]
    decoders: Mapping[str, Decode]
    judges: JudgePool
    speech: Sequence[str]
    scratch: Path
    shown: float = 0.0

    def prepare(self, pcm: Sound) -> tuple[Path, Sound]:
        """Return the input of all encoders: a 16-bit WAV file, and its samples. Shape: [C, N]. Raises: OSError."""
        wav = self.scratch / "in.wav"
        soundfile.write(wav, np.clip(pcm, -1, 32767 / 32768).T, SAMPLE_RATE, "PCM_16")
        return wav, read_audio(wav)

    def measure(self, item: Item, wav: Path, original: Sound) -> tuple[list[Pending], Media | None]:
        """Encode a recording with each encoder and measure the result of each decoder. Raises: OSError."""
        names = labels([(encoder, decoder) for encoder in self.encoders for decoder in self.decoders])
        shown = min(round(self.shown * SAMPLE_RATE), original.shape[1])
        pending, sounds, idwl = [], {ORIGINAL: original[:, :shown]}, {}
        for encoder in self.encoders:
            aea = wav.with_suffix(".aea")
            bits, error = self._encode(encoder, wav, aea)
            for decoder in self.decoders:
                row = Row(item.path, encoder, decoder, {}, {}, bits, error)
                if bits is None:
                    pending.append(Pending(row))
                    continue
                try:
                    decoded = self.decoders[decoder](aea)[:, CODEC_DELAY:]
                    if len(decoded) != len(original) or not decoded.shape[1]:
                        raise ValueError(f"decoded to {list(decoded.shape)}, the original is {list(original.shape)}")
                except Exception as failure:  # whatever an outside decoder raises is a result
                    pending.append(Pending(replace(row, error=f"{type(failure).__name__}: {failure}")))
                    continue
                n = min(original.shape[1], decoded.shape[1])
                pending.append(self._scored(row, item, original[:, :n], decoded[:, :n]))
                if shown:
                    sounds[names[encoder, decoder]] = decoded[:, :shown]
                    idwl[names[encoder, decoder]] = read_idwl(aea, shown)
        if not idwl:
            return pending, None
        n = min(sound.shape[1] for sound in sounds.values())
        sounds = {name: sound[:, :n] for name, sound in sounds.items()}
        picture = draw(item.path, sounds, idwl, self.scratch / "picture.png")
        return pending, Media(item.path, {name: flac(sound) for name, sound in sounds.items()}, picture.read_bytes())

    def _encode(self, encoder: str, wav: Path, aea: Path) -> tuple[Bits | None, str | None]:
        """Write an AEA file; return its bit statistics, or None and the error."""
        aea.unlink(missing_ok=True)
        try:
            self.encoders[encoder](wav, aea)
            return bits_of(aea), None
        except (AtracError, OSError) as error:
            return None, str(error)

    def _scored(self, row: Row, item: Item, original: Sound, decoded: Sound) -> Pending:
        answers = self.judges.submit(original, decoded)
        scores: dict[str, float | None] = plain(score(original, decoded))
        missing = {name: "not finite" for name, value in scores.items() if value is None}
        for name in self.speech if item.kind == SPEECH else ():
            scores[name] = plain(speech_score(name, original, decoded))
            if scores[name] is None:
                missing[name] = "too little speech"
        return Pending(replace(row, scores=scores, missing=missing), answers)
