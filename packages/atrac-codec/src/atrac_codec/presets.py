"""Presets: which sibling plays each role. Plain dictionaries, so that a mix of your own is one more.

`bitexact` makes the same bytes as the reference codec; `reference` makes the same decisions with fast, differentiable
arithmetic. Every encoder's files play in every ATRAC1 decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import nn

import atrac_modules as m
from atrac_codec.decoder import NNDecoder
from atrac_codec.encoder import NNEncoder

ENCODERS: Final[dict[str, dict[str, type[nn.Module]]]] = {
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
}
DECODERS: Final[dict[str, dict[str, type[nn.Module]]]] = {
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
}
DEFAULT: Final = "reference"
"""The best encoder there is."""


def build_encoder(preset: str = DEFAULT) -> NNEncoder:
    """Build the encoder of a preset.

    Raises:
        ValueError: no preset has that name.
    """
    return NNEncoder(**_stages(ENCODERS, "preset", preset))


def build_decoder(name: str = "standard") -> NNDecoder:
    """Build a decoder by name.

    Raises:
        ValueError: no decoder has that name.
    """
    return NNDecoder(**_stages(DECODERS, "decoder", name))


def _stages(table: Mapping[str, Mapping[str, type[nn.Module]]], kind: str, name: str) -> dict[str, Any]:
    if name not in table:
        raise ValueError(f"{kind} {name!r}, allowed {', '.join(table)}")
    return {role: stage() for role, stage in table[name].items()}
