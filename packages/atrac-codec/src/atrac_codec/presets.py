"""Presets: the stage that plays each role, in plain dictionaries to which an entry of your own can be added.

An entry gives for each role what makes the stage: a class, or `Trained("qmf-1a2b3c4d")`, a checkpoint among the weights
of this package, which presets may share.

Encoders: `bitexact` writes the same bytes as the reference codec. `reference` makes the same decisions with fast,
differentiable arithmetic. `rd` searches for the least audible error that the bits allow; `neural` does the same search
with a learned choice of block lengths. The stages of `neural-stages` have learned to imitate the reference codec. Every
encoder's files play in every ATRAC1 decoder.

Decoders: `neural` estimates the spectrum before quantization; the others return the values of the standard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import nn

import atrac_modules as m
from atrac_codec.checkpoint import load_stage
from atrac_codec.codec_folder import SHEET, Row, is_codec_folder, read_row
from atrac_codec.decoder import NNDecoder
from atrac_codec.encoder import NNEncoder

WEIGHTS: Final = Path(__file__).parent / "weights"
"""The trained stages that come with this package."""


@dataclass(frozen=True)
class Trained:
    """Loads a trained stage of this package when called, as a class makes an untrained stage.

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


_REFERENCE_ENCODER: Final = {
    "qmf": m.ReferenceQmf,
    "transient": m.ReferenceTransient,
    "mdct": m.ReferenceMdct,
    "scaler": m.ReferenceScaler,
    "allocator": m.ReferenceAllocator,
    "quantizer": m.ReferenceQuantizer,
    "loudness": m.ReferenceLoudness,
}
ENCODERS: Final[dict[str, Row]] = {
    "bitexact": {
        **_REFERENCE_ENCODER,
        "qmf": m.BitExactQmf,
        "transient": m.BitExactTransient,
        "mdct": m.BitExactMdct,
        "allocator": m.BitExactAllocator,
        "loudness": m.BitExactLoudness,
    },
    "reference": _REFERENCE_ENCODER,
    "rd": {
        **_REFERENCE_ENCODER,
        "transient": m.RateDistortionTransient,
        "allocator": m.RateDistortionAllocator,
    },
    "neural-stages": {
        **_REFERENCE_ENCODER,
        "qmf": Trained("qmf-a64bc2db"),
        "transient": Trained("transient-225add94"),
        "mdct": Trained("mdct-6d951916"),
        "scaler": Trained("scaler-3cff8bb9"),
        "allocator": Trained("allocator-c9bc08f3"),
        "quantizer": Trained("quantizer-62ce5c7c"),
    },
    "neural": {
        **_REFERENCE_ENCODER,
        "qmf": Trained("qmf-a64bc2db"),
        "transient": Trained("transient-f6073111"),
        "mdct": Trained("mdct-6d951916"),
        "allocator": m.NeuralRateDistortionAllocator,
    },
}
_REFERENCE_DECODER: Final = {"dequantizer": m.ReferenceDequantizer, "imdct": m.ReferenceImdct, "iqmf": m.ReferenceIqmf}
DECODERS: Final[dict[str, Row]] = {
    "standard": _REFERENCE_DECODER,
    "bitexact": {**_REFERENCE_DECODER, "imdct": m.BitExactImdct, "iqmf": m.BitExactIqmf},
    "neural-stages": {
        "dequantizer": Trained("dequantizer-0fdb4adb"),
        "imdct": Trained("imdct-dfe52b94"),
        "iqmf": Trained("iqmf-dff8cca1"),
    },
    "neural": {**_REFERENCE_DECODER, "dequantizer": Trained("dequantizer-4cbf664d")},
}
DEFAULT: Final = "neural"
"""The preset that is used where none is named."""
EFFORTS: Final = {
    "fast": (m.RateDistortionTransient, m.ReferenceTransient),
    "default": None,
    "best": (m.NeuralEntropyTransient, m.RateDistortionTransient),
}
"""For each effort, the transient stage of a preset that searches which is replaced, and its replacement."""


def build_encoder(preset: str | Path = DEFAULT, effort: str = "default") -> NNEncoder:
    """Build the encoder of a preset, or of a codec folder.

    Args:
        preset: name in `ENCODERS`, or a folder that `NNFullCodec.save_pretrained` wrote.
        effort: how a preset that searches chooses the block lengths. With `best` it tries both lengths in every band
            instead of asking a network; with `fast` it detects attacks as the reference codec does instead of trying.

    Raises:
        ValueError: no preset and no such folder has that name; the effort is unknown, or not `default` with a preset
            that does not search.
        CheckpointError, OSError: the weights of one of its stages are damaged or missing.
    """
    stages = _stages(ENCODERS, "encoder", "preset", preset)
    if effort not in EFFORTS:
        raise ValueError(f"effort {effort!r}, allowed {', '.join(EFFORTS)}")
    if exchange := EFFORTS[effort]:
        if not searches(stages["allocator"]):
            raise ValueError(f"effort {effort!r}, allowed default: preset {preset} searches for nothing")
        replaced, by = exchange
        if isinstance(stages["transient"], replaced):
            stages["transient"] = by()
    return NNEncoder(**stages)


def searches(allocator: m.Allocator) -> bool:
    """Tell whether an allocator searches, by the kernels of atrac-runtime."""
    return isinstance(allocator, m.RateDistortionAllocator | m.NeuralRateDistortionAllocator)


def build_decoder(name: str | Path = "standard") -> NNDecoder:
    """Build a decoder by name, or that of a codec folder.

    Args:
        name: name in `DECODERS`, or a folder that `NNFullCodec.save_pretrained` wrote.

    Raises:
        ValueError: no decoder and no such folder has that name.
        CheckpointError, OSError: the weights of one of its stages are damaged or missing.
    """
    return NNDecoder(**_stages(DECODERS, "decoder", "decoder", name))


def _stages(table: Mapping[str, Row], half: str, kind: str, name: str | Path) -> dict[str, Any]:
    if name in table:  # a folder of the same name can be given as ./name
        row = table[str(name)]
    elif is_codec_folder(name):
        row = read_row(name, half)
    else:
        raise ValueError(f"{kind} {str(name)!r}, allowed {', '.join(table)} or a folder with {SHEET}")
    return {role: stage() for role, stage in row.items()}
