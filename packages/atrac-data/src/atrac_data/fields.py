"""The fields of ground truth: shape, type and meaning of all that is stored of a frame, by name.

Which stage makes a field says `atrac_codec.trace`; `max_energy` and `quantization_error` are added for comparison with
pytrac. Names of the decoder's fields begin with `dec_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Frames = dict[str, NDArray[Any]]
"""Field name to array [C, F, *shape]."""


@dataclass(frozen=True)
class Field:
    """What one field holds for one frame of one channel.

    Args:
        shape: its dimensions.
        dtype: its type, little-endian.
        what: its meaning and unit.
        pytrac: names in pytrac's intermediate data; empty if it has none.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    what: str
    pytrac: str


def _field(shape: tuple[int, ...], dtype: str, what: str, pytrac: str) -> Field:
    return Field(shape, np.dtype(dtype), what, pytrac)


FIELDS: Final[Mapping[str, Field]] = MappingProxyType(
    {
        "pcm": _field((512,), "<f4", "samples that went in, full scale +-1", "pcm_input"),
        "bands": _field((512,), "<f4", "low, mid, high after the QMF", "qmf_low, qmf_mid, qmf_hi"),
        "bsm": _field(
            (3,), "|u1", "block size modes: 0 long; 2, 2, 3 short", "window_mask, block_size_log_count, enc_log_count_*"
        ),
        "spectrum": _field((512,), "<f4", "MDCT coefficients, frequency ascending", "mdct_specs"),
        "max_energy": _field((52,), "<f4", "largest squared coefficient of each BFU", "scaled_blocks[].max_energy"),
        "idsf": _field((52,), "|u1", "scale factor index of all BFUs", "scaled_blocks[].scale_factor_index"),
        "scaled": _field((512,), "<f4", "coefficients over their scale factors, all BFUs", "scaled_blocks[].values"),
        "loudness": _field((), "<f4", "loudness that the allocator went by, the same in both channels", ""),
        "n_bfu": _field((), "|u1", "number of BFUs carried: 20 .. 52", "bfu_amount_table_idx_used"),
        "idwl": _field((52,), "|u1", "word length index, 0 past n_bfu", "bits_per_bfu"),
        "quantized": _field((512,), "<i2", "quantized values, 0 in BFUs without bits", "quantized_values"),
        "quantization_error": _field(
            (512,), "<f4", "scaled less quantized over its levels, 0 in BFUs without bits", "quantization_error"
        ),
        "units": _field((212,), "|u1", "the sound unit", "compressed_data_per_channel"),
        "dec_spectrum": _field(
            (512,), "<f4", "dequantized coefficients, frequency ascending", "decoder: mdct_specs, reversed back"
        ),
        "dec_bands": _field((512,), "<f4", "bands after the inverse MDCT", "decoder: qmf_low, qmf_mid, qmf_hi"),
        "dec_pcm": _field((512,), "<f4", "samples that came out, 266 later", "decoder: pcm_output"),
    }
)
"""All fields, in the order of the chain.

What pytrac's decoder shows besides (`window_mask`, `block_size_log_count`, `bits_per_bfu`, `scale_factor_indices`,
`parsed_quantized_values`, `compressed_input`) is what the sound unit holds: `bsm`, `idwl`, `idsf` of the carried BFUs,
`quantized` and `units` again.
"""


def check_fields(names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return field names as given, all of them for none. Raises: ValueError: a name is unknown, or comes twice."""
    for name in names:
        if name not in FIELDS:
            raise ValueError(f"field {name!r}, allowed {', '.join(FIELDS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"fields {', '.join(names)}: each allowed once")
    return tuple(names) or tuple(FIELDS)
