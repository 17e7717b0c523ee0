"""One recording through all encoders and decoders, with all measures and judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from atrac_bitstream import CODEC_DELAY, AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import read_audio
from atrac_train.evaluation.bits import Bits, bits_of
from atrac_train.evaluation.coders import Decode, Encode
from atrac_train.evaluation.kinds import SPEECH
from atrac_train.evaluation.media import ORIGINAL, Media, draw, flac, read_idwl
from atrac_train.evaluation.outside import Sound
from atrac_train.evaluation.results import Item, Row, labels
from atrac_train.evaluation.scores import measure


@dataclass(frozen=True)
class Panel:
    """The encoders, decoders, measures and judges of an evaluation.

    Args:
        encoders, decoders: by name.
        grade: has a row graded by outside judges, see `grading`.
        scratch: folder for temporary files.
        shown: seconds of a recording to keep for a report; 0 for none.
    """

    encoders: Mapping[str, Encode]
    decoders: Mapping[str, Decode]
    grade: Callable[[Row, Sound, Sound], None]
    scratch: Path
    shown: float = 0.0

    def prepare(self, pcm: Sound) -> tuple[Path, Sound]:
        """Return the input of all encoders: a 16-bit WAV file, and its samples. Shape: [C, N]. Raises: OSError."""
        wav = self.scratch / "in.wav"
        soundfile.write(wav, np.clip(pcm, -1, 32767 / 32768).T, SAMPLE_RATE, "PCM_16")
        return wav, read_audio(wav)

    def measure(self, item: Item, wav: Path, original: Sound) -> tuple[list[Row], Media | None]:
        """Encode a recording with each encoder and measure the result of each decoder. Raises: OSError."""
        names = labels((encoder, decoder) for encoder in self.encoders for decoder in self.decoders)
        shown = min(round(self.shown * SAMPLE_RATE), original.shape[1])
        rows, sounds, idwl, aea = [], {ORIGINAL: original[:, :shown]}, {}, wav.with_suffix(".aea")
        for encoder in self.encoders:
            bits, error = self._encode(encoder, wav, aea)
            for decoder in self.decoders:
                rows.append(row := Row(item.path, encoder, decoder, bits=bits, error=error))
                decoded = None if error else self._decode(row, aea, original)
                if decoded is not None:
                    same = original[:, : decoded.shape[1]]
                    row.scores, row.missing = measure(same, decoded, item.kind == SPEECH)
                    self.grade(row, same, decoded)
                    if shown:
                        name = names[encoder, decoder]
                        sounds[name], idwl[name] = decoded[:, :shown], read_idwl(aea, shown)
        if not idwl:
            return rows, None
        n = min(sound.shape[1] for sound in sounds.values())
        sounds = {name: sound[:, :n] for name, sound in sounds.items()}
        picture = draw(item.path, sounds, idwl, self.scratch / "picture.png")
        return rows, Media(item.path, {name: flac(sound) for name, sound in sounds.items()}, picture.read_bytes())

    def _encode(self, encoder: str, wav: Path, aea: Path) -> tuple[Bits | None, str | None]:
        """Write an AEA file; return its bit statistics, or None and the error."""
        aea.unlink(missing_ok=True)
        try:
            self.encoders[encoder](wav, aea)
            return bits_of(aea), None
        except (AtracError, OSError) as error:
            return None, str(error)

    def _decode(self, row: Row, aea: Path, original: Sound) -> Sound | None:
        """Return the decoded sound without the codec's delay, or None and put the error into the row."""
        try:
            decoded = self.decoders[row.decoder](aea)[:, CODEC_DELAY:][:, : original.shape[1]]
            if len(decoded) != len(original) or not decoded.shape[1]:
                raise ValueError(f"decoded to {list(decoded.shape)}, the original is {list(original.shape)}")
            return decoded
        except Exception as error:  # whatever an outside decoder raises is a result
            row.error = f"{type(error).__name__}: {error}"
            return None
