"""Pictures of what a stage answers beside what its teacher answers."""

from atrac_train.pictures.allocator import draw_allocator
from atrac_train.pictures.dequantizer import draw_dequantizer
from atrac_train.pictures.filter_banks import draw_filter_bank
from atrac_train.pictures.quantizer import draw_quantizer
from atrac_train.pictures.scaler import draw_scaler
from atrac_train.pictures.transient import draw_transient

__all__ = [
    "draw_allocator",
    "draw_dequantizer",
    "draw_filter_bank",
    "draw_quantizer",
    "draw_scaler",
    "draw_transient",
]
