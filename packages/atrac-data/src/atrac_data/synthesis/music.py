"""A small band: plucked chords, a tune over them, bass and drums, in a room."""

from dataclasses import dataclass

import numpy as np

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_data.synthesis.drums import hat, kick, snare
from atrac_data.synthesis.mixing import Sound, add_at, pan, room, seconds_to_samples
from atrac_data.synthesis.strings import pluck

MAJOR = (0, 2, 4, 5, 7, 9, 11)
"""Semitones above the key for each degree of the scale."""

PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 5, 4), (0, 2, 3, 4))
"""Four chords each, by the degree of the scale they stand on."""

ARPEGGIOS = ((0, 2, 3, 4, 3, 2, 3, 2), (0, 1, 2, 3, 4, 3, 2, 1), (0, 2, 1, 3, 2, 4, 3, 2))
"""Eight eighth notes, by the string of the chord."""

TUNES = (
    ((0, 4), (3, 2), (4, 0), (6, 1)),
    ((0, 2), (2, 4), (3, 5), (4, 4), (7, 2)),
    ((1, 2), (2, 4), (4, 7), (6, 4)),
    ((0, 7), (3, 4), (6, 2)),
)
"""Where in the bar (eighth notes) and how far above the chord (degrees)."""

CHORD = (0, 4, 7, 9, 11)
"""The five strings of a chord, in degrees above its root: root, fifth, octave, tenth, twelfth."""

RING = 1.8
"""s, for the last chord to die away."""


@dataclass(frozen=True)
class _Voice:
    """A stringed instrument: how far above the key it plays, where it stands, and its string."""

    octave: int
    position: float
    gain: float
    seconds: float
    decay: float
    damping: float
    brightness: float


_GUITAR = _Voice(octave=0, position=-0.65, gain=0.22, seconds=2.9, decay=4.0, damping=0.3, brightness=2000.0)
_LEAD = _Voice(octave=1, position=0.65, gain=0.28, seconds=1.4, decay=2.6, damping=0.2, brightness=3500.0)
_BASS = _Voice(octave=-1, position=0.0, gain=0.38, seconds=1.4, decay=2.4, damping=0.5, brightness=600.0)


class _Band:
    """Plays notes into a mix; each note of an instrument is rendered once and reused."""

    def __init__(self, n_samples: int, rng: np.random.Generator) -> None:
        self.mix = np.zeros((2, n_samples))
        self.rng = rng
        self.key = int(rng.integers(45, 53))  # A2 to E3, as MIDI counts
        self.strings: dict[tuple[_Voice, int], Sound] = {}
        self.drums = {"kick": kick(), "snare": snare(rng), "hat": hat(rng), "open": hat(rng, 0.15)}
        self.places = {"kick": 0.0, "snare": 0.1, "hat": 0.4, "open": 0.4}

    def string(self, voice: _Voice, degree: int, time: float, gain: float = 1.0) -> None:
        if (voice, degree) not in self.strings:
            note = self.key + 12 * (voice.octave + degree // 7) + MAJOR[degree % 7]
            sound = pluck(
                440.0 * 2.0 ** ((note - 69) / 12.0),
                voice.seconds,
                self.rng,
                decay=voice.decay,
                damping=voice.damping,
                brightness=voice.brightness,
            )
            self.strings[voice, degree] = pan(voice.gain * sound, voice.position)
        self._play(self.strings[voice, degree], time, gain)

    def drum(self, name: str, time: float, gain: float) -> None:
        self._play(pan(self.drums[name], self.places[name]), time, gain)

    def _play(self, sound: Sound, time: float, gain: float) -> None:
        late = max(time + 0.003 * self.rng.normal(), 0.0)  # musicians deviate a little from strict time
        add_at(self.mix, gain * self.rng.uniform(0.85, 1.0) * sound, seconds_to_samples(late))


def render_music(n_samples: int, rng: np.random.Generator) -> Sound:
    """Play a piece of whole bars with a last chord that rings; below four seconds, the beginning of one.

    Key, tempo, chords, tune and the way the chords are picked come from `rng`. The tempo gives way a little
    so that the piece ends when the time is over.

    Args:
        n_samples: length.
        rng: draws the piece and every string.

    Shape:    -> [2, n_samples]
    """
    band = _Band(n_samples, rng)
    bar = 240.0 / rng.uniform(96.0, 122.0)
    lead_in = 0.02
    time_for_bars = n_samples / SAMPLE_RATE - RING - lead_in
    closes = time_for_bars > 1.2
    if closes:
        n_bars = round(time_for_bars / bar)
        n_bars = 2 * round(n_bars / 2) if n_bars > 2 else max(n_bars, 1)
        bar = time_for_bars / n_bars
    else:
        n_bars = 2
    chords = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    picking = ARPEGGIOS[rng.integers(len(ARPEGGIOS))]
    tunes = [TUNES[i] for i in rng.permutation(len(TUNES))[:2]]
    for index in range(n_bars):
        start = lead_in + index * bar
        root = chords[index % 4]
        _strings(band, start, bar, root, picking)
        if index % 8 > 0:
            _drums(band, start, bar, fill=index % 4 == 3)
        if index % 8 > 0 or n_bars == 1:
            _tune(band, start, bar, root, tunes[index // 2 % 2])
    if closes:
        _last_chord(band, lead_in + n_bars * bar)
    return np.tanh(0.8 * room(band.mix, rng, decay=1.1, wet=0.2))


def _strings(band: _Band, start: float, bar: float, root: int, picking: tuple[int, ...]) -> None:
    for eighth, string in enumerate(picking):
        accent = 1.0 if eighth % 4 == 0 else 0.75
        band.string(_GUITAR, root + CHORD[string], start + eighth * bar / 8.0, accent)
    for eighth, degree in ((0, 0), (3, 0), (4, 4), (6, 0)):
        band.string(_BASS, root + degree, start + eighth * bar / 8.0, 1.0 if eighth == 0 else 0.7)


def _drums(band: _Band, start: float, bar: float, fill: bool) -> None:
    for eighth in range(8):
        band.drum("hat", start + eighth * bar / 8.0, 0.16 if eighth % 2 == 0 else 0.09)
    for eighth in (0, 3, 4):
        band.drum("kick", start + eighth * bar / 8.0, 0.75)
    for half_eighth in (4, 12, 14, 15) if fill else (4, 12):
        band.drum("snare", start + half_eighth * bar / 16.0, 0.5 if half_eighth < 14 else 0.3)
    if fill:
        band.drum("open", start + 7.0 * bar / 8.0, 0.14)


def _tune(band: _Band, start: float, bar: float, root: int, tune: tuple[tuple[int, int], ...]) -> None:
    for eighth, degree in tune:
        band.string(_LEAD, root % 7 + degree, start + eighth * bar / 8.0)


def _last_chord(band: _Band, start: float) -> None:
    for order, degree in enumerate(CHORD):
        band.string(_GUITAR, degree, start + 0.022 * order, 1.1)
    band.string(_BASS, 0, start)
    band.string(_LEAD, 7, start + 0.022 * len(CHORD), 0.8)
    band.drum("kick", start, 0.75)
    band.drum("open", start, 0.16)
