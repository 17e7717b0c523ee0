"""What each stage learns, and how it is measured against the teacher."""

from atrac_train.objective import Objective
from atrac_train.objectives.allocator import AllocatorObjective
from atrac_train.objectives.dequantizer import DequantizerObjective
from atrac_train.objectives.filter_banks import ImdctObjective, IqmfObjective, MdctObjective, QmfObjective
from atrac_train.objectives.quantizer import QuantizerObjective
from atrac_train.objectives.scaler import ScalerObjective
from atrac_train.objectives.transient import TransientObjective

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
