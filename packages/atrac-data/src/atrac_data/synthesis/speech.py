"""Speech-like sound without words: glottal pulses through moving formants, hisses, and pauses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_data.synthesis.mixing import Sound, pan, room, seconds_of
from atrac_data.synthesis.moving_filter import moving_filter

VOWELS = (
    (270.0, 2290.0, 3010.0),
    (390.0, 1990.0, 2550.0),
    (530.0, 1840.0, 2480.0),
    (660.0, 1720.0, 2410.0),
    (730.0, 1090.0, 2440.0),
    (570.0, 840.0, 2410.0),
    (440.0, 1020.0, 2240.0),
    (300.0, 870.0, 2240.0),
    (640.0, 1190.0, 2390.0),
    (490.0, 1350.0, 1690.0),
)
"""First three formants in Hz of ten English vowels, means over men.

Source: Peterson and Barney, "Control methods used in a study of the vowels", JASA 24 (2), 1952, table II
"""

NASAL = (280.0, 1000.0, 2200.0)
"""Formants in Hz behind closed lips."""

HISSES = ((6800.0, 1500.0, 0.5), (3300.0, 900.0, 0.6), (8500.0, 4000.0, 0.15))
"""Centre in Hz, half width in Hz and gain of s, sh and f."""

BANDWIDTHS = (70.0, 100.0, 160.0, 260.0)
"""Hz, of the three formants and of a fourth that stands still."""

FOURTH_FORMANT = 3500.0
"""Hz."""

Formants = tuple[float, float, float]


@dataclass(frozen=True)
class _Target:
    """State of the vocal tract at a time, in s: formants in Hz, gain of the voice, hiss, pitch in Hz."""

    time: float
    formants: Formants
    voice: float
    hiss: tuple[float, float, float]
    pitch: float


def render_speech(n_samples: int, rng: np.random.Generator) -> Sound:
    """Talk in phrases of three to eight syllables, with pauses of 0.25 to 0.6 s between them.

    The speaker (pitch, length of the throat) comes from `rng` as well. The voice stands in the middle of a
    small room, so left and right differ by its echo alone.

    Args:
        n_samples: length.
        rng: draws the speaker, the syllables and the noise.

    Shape:    -> [2, n_samples]
    Source:   the glottal pulse: Rosenberg, "Effect of glottal pulse shape on the quality of natural vowels",
              JASA 49 (2), 1971
    """
    targets = _Speaker(rng).talk(n_samples / SAMPLE_RATE)
    at = np.array([target.time for target in targets])
    formants = np.array([target.formants for target in targets])
    hisses = np.array([target.hiss for target in targets])
    time = seconds_of(n_samples)

    voice = np.interp(time, at, [target.voice for target in targets])
    pitch = np.interp(time, at, [target.pitch for target in targets])
    breath = 0.01 * rng.normal(size=n_samples)
    source = voice * (_glottal_pulses(pitch, rng) + breath)

    def mouth(times: Sound, frequencies: Sound) -> NDArray[np.complex128]:
        moving = [np.interp(times, at, formants[:, i]) for i in range(3)]
        return _formant_response([*moving, np.full_like(times, FOURTH_FORMANT)], frequencies)

    def teeth(times: Sound, frequencies: Sound) -> Sound:
        centre, width = (np.interp(times, at, hisses[:, i]) for i in range(2))
        gains: Sound = np.exp(-0.5 * ((frequencies - centre) / width) ** 2)
        return gains

    hiss = moving_filter(np.interp(time, at, hisses[:, 2]) * rng.normal(size=n_samples), teeth)
    mono = moving_filter(source, mouth) + 0.12 * hiss
    return room(pan(mono, 0.0), rng, decay=0.18, wet=0.1)


class _Speaker:
    """Plans an utterance: targets in order of time, from 0 to past the end."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.pitch = rng.uniform(95.0, 210.0)
        self.throat = 1.0 + 0.18 * (self.pitch - 95.0) / 115.0  # higher voices have shorter throats
        self.now = 0.04
        self.targets = [_Target(0.0, VOWELS[8], 0.0, (5000.0, 2000.0, 0.0), self.pitch)]

    def talk(self, seconds: float) -> list[_Target]:
        while self.now < seconds:
            n_syllables = int(self.rng.integers(3, 9))
            for syllable in range(n_syllables):
                self.syllable(self.pitch * (1.12 - 0.24 * syllable / n_syllables) * self.rng.uniform(0.94, 1.08))
            self.aim(self.rng.uniform(0.25, 0.6), VOWELS[8], self.pitch)
        return self.targets

    def syllable(self, pitch: float) -> None:
        rng = self.rng
        vowel, glide = (VOWELS[i] for i in rng.integers(len(VOWELS), size=2))
        match rng.choice(["hiss", "nasal", "stop", "none"], p=[0.35, 0.2, 0.3, 0.15]):
            case "hiss":
                self.aim(rng.uniform(0.07, 0.13), vowel, pitch, hiss=int(rng.integers(len(HISSES))))
            case "nasal":
                self.aim(rng.uniform(0.05, 0.09), NASAL, pitch, voice=0.35)
            case "stop":
                self.aim(rng.uniform(0.05, 0.08), vowel, pitch)
                self.aim(0.014, vowel, pitch, hiss=int(rng.integers(2)))
        self.aim(rng.uniform(0.1, 0.22), vowel, pitch, voice=rng.uniform(0.7, 1.0))
        if rng.random() < 0.4:  # a diphthong
            self.aim(rng.uniform(0.06, 0.1), glide, 0.96 * pitch, voice=0.7)

    def aim(
        self, length: float, formants: Formants, pitch: float, *, voice: float = 0.0, hiss: int | None = None
    ) -> None:
        """Move to a target within 25 ms or a third of `length`, and stay until `length` is over."""
        first, second, third = formants
        scaled = (first * self.throat, second * self.throat, third * self.throat)
        noise = (*self.targets[-1].hiss[:2], 0.0) if hiss is None else HISSES[hiss]
        for time in (self.now + min(0.025, length / 3.0), self.now + length):
            self.targets.append(_Target(time, scaled, voice, noise, pitch))
        self.now += length


def _glottal_pulses(pitch: Sound, rng: np.random.Generator) -> Sound:
    """Differentiate the air flow between the vocal folds: half a cosine up, a quarter down."""
    n_samples = len(pitch)
    knots = np.arange(0, n_samples + 441, 441)
    wobble = np.interp(np.arange(n_samples), knots, 1.0 + 0.012 * rng.normal(size=len(knots)))
    phase = np.cumsum(pitch * wobble / SAMPLE_RATE) % 1.0
    opening, closing = 0.4, 0.16
    flow = np.where(phase < opening, 0.5 - 0.5 * np.cos(np.pi * phase / opening), 0.0)
    falls = (phase >= opening) & (phase < opening + closing)
    flow = np.where(falls, np.cos(0.5 * np.pi * (phase - opening) / closing), flow)
    return np.diff(flow, prepend=0.0) * (SAMPLE_RATE / 4000.0)


def _formant_response(formants: list[Sound], frequencies: Sound) -> NDArray[np.complex128]:
    """Chain one resonance per formant: formants [n, 1] in Hz each, frequencies [K] -> [n, K]."""
    z = np.exp(-2j * np.pi * frequencies / SAMPLE_RATE)
    response = np.ones((1, len(frequencies)), dtype=np.complex128)
    for formant, bandwidth in zip(formants, BANDWIDTHS):
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        a = 2.0 * radius * np.cos(2.0 * np.pi * formant / SAMPLE_RATE)
        response = response * ((1.0 - a + radius**2) / (1.0 - a * z + radius**2 * z**2))
    return response
