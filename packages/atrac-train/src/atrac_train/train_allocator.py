"""Teach networks the decisions of the search: what preset `rd` chooses as block lengths and importances of BFUs.

    python apps/train_allocator.py [--config FILE] [key=value …]
    accelerate launch apps/train_allocator.py …                   on the GPUs of this machine
    torchrun --nproc_per_node 2 apps/train_allocator.py …         several processes, on CPUs too

Settings come from FILE, else from the package's configs/train_allocator.yaml, and from key=value:
`data.shards=FOLDER`, `epochs=3`, `output=FOLDER`. Without data.shards the built-in corpus is rendered and used. An
interrupted training goes on when the same command is called again. weights=FOLDER or weights=PRESET measures a codec
instead that has learned the same. The folder OUTPUT/weights can replace a preset name, and apps/finetune_e2e.py can go
on from it: `objective.start=OUTPUT/weights`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from atrac_train.launch import CONFIGS, App, launch
from atrac_train.objectives.distillation import DistillationObjective

APP = App(__doc__, {"distil": DistillationObjective}, lambda stage: CONFIGS / "train_allocator.yaml", "distil")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure and save; return the exit code."""
    return launch(APP, argv)


if __name__ == "__main__":
    sys.exit(main())
