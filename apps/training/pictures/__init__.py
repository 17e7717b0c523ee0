"""Pictures of what a stage answers beside what its teacher answers."""

from training.pictures.allocator import draw_allocator
from training.pictures.dequantizer import draw_dequantizer
from training.pictures.filter_banks import draw_filter_bank
from training.pictures.quantizer import draw_quantizer
from training.pictures.scaler import draw_scaler
from training.pictures.transient import draw_transient

__all__ = [
    "draw_allocator",
    "draw_dequantizer",
    "draw_filter_bank",
    "draw_quantizer",
    "draw_scaler",
    "draw_transient",
]
