"""Train a neural stage on ground truth, measure it on recordings it has not seen, and save its weights.

    python apps/train_stage.py stage=qmf [--config FILE] [key=value …]
    accelerate launch apps/train_stage.py stage=qmf …                  on the GPUs of this machine
    torchrun --nproc_per_node 2 apps/train_stage.py stage=qmf …        several processes, on CPUs too

Settings come from FILE, else from the package's configs/STAGE.yaml, and from key=value: `epochs=3`,
`data.shards=FOLDER`, `optimizer.learning_rate=1e-4`. Without data.shards the built-in corpus is rendered and used. An
interrupted training goes on when the same command is called again. weights=FILE measures a saved stage instead,
weights=PRESET one that comes with atrac-codec.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from atrac_train.launch import CONFIGS, App, launch
from atrac_train.objectives import OBJECTIVES


def config(stage: str) -> Path:
    """Return the stage's own file, or what all share."""
    own = CONFIGS / f"{stage}.yaml"
    return own if own.exists() else CONFIGS / "base.yaml"


APP = App(__doc__, OBJECTIVES, config, "qmf")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure and save a stage; return the exit code."""
    return launch(APP, argv)


if __name__ == "__main__":
    sys.exit(main())
