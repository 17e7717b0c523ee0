"""The stages of an ATRAC1 encoder and decoder as torch modules."""

from atrac_modules.__about__ import __version__
from atrac_modules.allocator import Allocation, Allocator, BitExactAllocator, ReferenceAllocator
from atrac_modules.bfu import BfuLayout
from atrac_modules.dequantizer import Dequantizer, ReferenceDequantizer
from atrac_modules.frame import FrameBatch
from atrac_modules.imdct import BitExactImdct, Imdct, ReferenceImdct
from atrac_modules.iqmf import BitExactIqmf, Iqmf, ReferenceIqmf
from atrac_modules.loudness import BitExactLoudness, Loudness, LoudnessTrack, ReferenceLoudness
from atrac_modules.mdct import BitExactMdct, Mdct, ReferenceMdct
from atrac_modules.qmf import BitExactQmf, Qmf, ReferenceQmf
from atrac_modules.quantizer import Quantizer, ReferenceQuantizer
from atrac_modules.rate import used_value_bits, value_bits, word_length
from atrac_modules.scaler import ReferenceScaler, Scaled, Scaler
from atrac_modules.stage import ShapeError, Stage
from atrac_modules.straight_through import Rounding, SoftRounding, StraightThrough, UniformNoise
from atrac_modules.transient import BitExactTransient, ReferenceTransient, Transient

__all__ = [
    "Allocation",
    "Allocator",
    "BfuLayout",
    "BitExactAllocator",
    "BitExactImdct",
    "BitExactIqmf",
    "BitExactLoudness",
    "BitExactMdct",
    "BitExactQmf",
    "BitExactTransient",
    "Dequantizer",
    "FrameBatch",
    "Imdct",
    "Iqmf",
    "Loudness",
    "LoudnessTrack",
    "Mdct",
    "Qmf",
    "Quantizer",
    "ReferenceAllocator",
    "ReferenceDequantizer",
    "ReferenceImdct",
    "ReferenceIqmf",
    "ReferenceLoudness",
    "ReferenceMdct",
    "ReferenceQmf",
    "ReferenceQuantizer",
    "ReferenceScaler",
    "ReferenceTransient",
    "Rounding",
    "Scaled",
    "Scaler",
    "ShapeError",
    "SoftRounding",
    "Stage",
    "StraightThrough",
    "Transient",
    "UniformNoise",
    "__version__",
    "used_value_bits",
    "value_bits",
    "word_length",
]
