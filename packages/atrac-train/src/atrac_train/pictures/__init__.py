"""Pictures of what a stage answers beside what its teacher answers."""

from collections.abc import Callable
from pathlib import Path

from atrac_train.pictures.allocator import draw_allocator
from atrac_train.pictures.codec import draw_codec_runs
from atrac_train.pictures.curve import draw_curve
from atrac_train.pictures.dequantizer import draw_dequantizer
from atrac_train.pictures.filter_banks import draw_filter_bank
from atrac_train.pictures.quantizer import draw_quantizer
from atrac_train.pictures.scaler import draw_scaler
from atrac_train.pictures.transient import draw_transient

__all__ = ["PICTURES", "draw_curve"]

PICTURES: dict[str, Callable[..., list[Path]]] = {
    "qmf": draw_filter_bank,
    "transient": draw_transient,
    "mdct": draw_filter_bank,
    "scaler": draw_scaler,
    "allocator": draw_allocator,
    "quantizer": draw_quantizer,
    "dequantizer": draw_dequantizer,
    "imdct": draw_filter_bank,
    "iqmf": draw_filter_bank,
    "codec": draw_codec_runs,
}
"""By the name of what is trained: draws some of its examples into a folder and returns the paths."""
