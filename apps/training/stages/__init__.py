"""What each stage learns, and how it is measured against the teacher."""

from training.objective import Objective
from training.stages.allocator import AllocatorObjective
from training.stages.dequantizer import DequantizerObjective
from training.stages.filter_banks import ImdctObjective, IqmfObjective, MdctObjective, QmfObjective
from training.stages.quantizer import QuantizerObjective
from training.stages.scaler import ScalerObjective
from training.stages.transient import TransientObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "qmf": QmfObjective,
    "transient": TransientObjective,
    "mdct": MdctObjective,
    "scaler": ScalerObjective,
    "allocator": AllocatorObjective,
    "quantizer": QuantizerObjective,
    "dequantizer": DequantizerObjective,
    "imdct": ImdctObjective,
    "iqmf": IqmfObjective,
}
"""By role, in the order of the chain."""
