"""How the built-in sounds are made: each function draws from a generator and returns left and right [2,
T]."""

from atrac_data.synthesis.attacks import render_attacks
from atrac_data.synthesis.effects import render_effects
from atrac_data.synthesis.mixing import SAMPLE_RATE, Sound
from atrac_data.synthesis.music import render_music
from atrac_data.synthesis.noise import render_noise, render_pink_noise
from atrac_data.synthesis.speech import render_speech

__all__ = [
    "SAMPLE_RATE",
    "Sound",
    "render_attacks",
    "render_effects",
    "render_music",
    "render_noise",
    "render_pink_noise",
    "render_speech",
]
