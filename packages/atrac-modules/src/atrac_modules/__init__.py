"""The stages of an ATRAC1 encoder and decoder as torch modules."""

from atrac_modules.__about__ import __version__
from atrac_modules.allocation_search import NeuralRateDistortionAllocator, RateDistortionAllocator
from atrac_modules.allocator import Allocation, Allocator, BitExactAllocator, NeuralAllocator, ReferenceAllocator
from atrac_modules.bfu import BfuLayout
from atrac_modules.block_choice import NeuralEntropyTransient, RateDistortionTransient
from atrac_modules.dequantizer import Dequantizer, NeuralDequantizer, ReferenceDequantizer
from atrac_modules.frame import FrameBatch
from atrac_modules.imdct import BitExactImdct, Imdct, NeuralImdct, ReferenceImdct
from atrac_modules.iqmf import BitExactIqmf, Iqmf, NeuralIqmf, ReferenceIqmf
from atrac_modules.loudness import BitExactLoudness, Loudness, LoudnessTrack, ReferenceLoudness
from atrac_modules.mdct import BitExactMdct, Mdct, NeuralMdct, ReferenceMdct
from atrac_modules.psychoacoustics import MaskingModel
from atrac_modules.qmf import BitExactQmf, NeuralQmf, Qmf, ReferenceQmf
from atrac_modules.quantizer import NeuralQuantizer, Quantizer, ReferenceQuantizer
from atrac_modules.rate import used_value_bits, value_bits, word_length
from atrac_modules.scaler import NeuralScaler, ReferenceScaler, Scaler
from atrac_modules.stage import ShapeError, Stage
from atrac_modules.straight_through import Rounding, SoftRounding, StraightThrough, UniformNoise
from atrac_modules.transient import BitExactTransient, NeuralTransient, ReferenceTransient, Transient

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
    "MaskingModel",
    "Mdct",
    "NeuralAllocator",
    "NeuralDequantizer",
    "NeuralEntropyTransient",
    "NeuralImdct",
    "NeuralIqmf",
    "NeuralMdct",
    "NeuralQmf",
    "NeuralQuantizer",
    "NeuralRateDistortionAllocator",
    "NeuralScaler",
    "NeuralTransient",
    "Qmf",
    "Quantizer",
    "RateDistortionAllocator",
    "RateDistortionTransient",
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
