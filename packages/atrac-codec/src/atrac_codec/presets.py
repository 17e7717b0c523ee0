"""Presets: which sibling plays each role. Plain dictionaries, so that a mix of your own is one more.

A row gives for each role what makes the stage: a class, or `Trained("qmf-1a2b3c4d")`, a checkpoint among the weights
of this package, which rows may share.

`bitexact` makes the same bytes as the reference codec; `reference` makes the same decisions with fast, differentiable
arithmetic; `neural-stages` has learned all of it from the reference codec. Every encoder's files play in every ATRAC1
decoder. Of the decoders, `neural` looks for what was there before quantization; the others give the standard's values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import nn

import atrac_modules as m
from atrac_codec.checkpoint import load_stage
from atrac_codec.decoder import NNDecoder
from atrac_codec.encoder import NNEncoder

WEIGHTS: Final = Path(__file__).parent / "weights"
"""The trained stages that come with this package."""
Preset = Mapping[str, Callable[[], nn.Module]]
"""For each role, what makes its stage."""


@dataclass(frozen=True)
class Trained:
    """Makes a trained stage of this package, as a class makes an untrained one.

    Args:
        name: of its checkpoint in `WEIGHTS`, `qmf-1a2b3c4d`.
    """

    name: str

    @property
    def path(self) -> Path:
        """The file of tensors."""
        return WEIGHTS / f"{self.name}.safetensors"

    def __call__(self) -> nn.Module:
        """Load the stage. Raises: CheckpointError, OSError."""
        return load_stage(self.path)


ENCODERS: Final[dict[str, Preset]] = {
    "bitexact": {
        "qmf": m.BitExactQmf,
        "transient": m.BitExactTransient,
        "mdct": m.BitExactMdct,
        "scaler": m.ReferenceScaler,
        "allocator": m.BitExactAllocator,
        "quantizer": m.ReferenceQuantizer,
        "loudness": m.BitExactLoudness,
    },
    "reference": {
        "qmf": m.ReferenceQmf,
        "transient": m.ReferenceTransient,
        "mdct": m.ReferenceMdct,
        "scaler": m.ReferenceScaler,
        "allocator": m.ReferenceAllocator,
        "quantizer": m.ReferenceQuantizer,
        "loudness": m.ReferenceLoudness,
    },
    "neural-stages": {
        "qmf": Trained("qmf-a64bc2db"),
        "transient": Trained("transient-225add94"),
        "mdct": Trained("mdct-6d951916"),
        "scaler": Trained("scaler-3cff8bb9"),
        "allocator": Trained("allocator-32a4d546"),
        "quantizer": Trained("quantizer-18bdb9da"),
        "loudness": m.ReferenceLoudness,
    },
}
DECODERS: Final[dict[str, Preset]] = {
    "standard": {
        "dequantizer": m.ReferenceDequantizer,
        "imdct": m.ReferenceImdct,
        "iqmf": m.ReferenceIqmf,
    },
    "bitexact": {
        "dequantizer": m.ReferenceDequantizer,
        "imdct": m.BitExactImdct,
        "iqmf": m.BitExactIqmf,
    },
    "neural-stages": {
        "dequantizer": Trained("dequantizer-0fdb4adb"),
        "imdct": Trained("imdct-dfe52b94"),
        "iqmf": Trained("iqmf-dff8cca1"),
    },
    "neural": {
        "dequantizer": Trained("dequantizer-eeb6951a"),
        "imdct": m.ReferenceImdct,
        "iqmf": m.ReferenceIqmf,
    },
}
DEFAULT: Final = "reference"
"""The best encoder there is."""


def build_encoder(preset: str = DEFAULT) -> NNEncoder:
    """Build the encoder of a preset.

    Raises:
        ValueError: no preset has that name.
        CheckpointError, OSError: the weights of one of its stages are damaged or missing.
    """
    return NNEncoder(**_stages(ENCODERS, "preset", preset))


def build_decoder(name: str = "standard") -> NNDecoder:
    """Build a decoder by name.

    Raises:
        ValueError: no decoder has that name.
        CheckpointError, OSError: the weights of one of its stages are damaged or missing.
    """
    return NNDecoder(**_stages(DECODERS, "decoder", name))


def _stages(table: Mapping[str, Preset], kind: str, name: str) -> dict[str, Any]:
    if name not in table:
        raise ValueError(f"{kind} {name!r}, allowed {', '.join(table)}")
    return {role: stage() for role, stage in table[name].items()}
