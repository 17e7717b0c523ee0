"""Train a neural stage on ground truth, measure it on recordings it has not seen, and save its weights.

    python apps/train_stage.py stage=qmf [--config FILE] [key=value …]
    accelerate launch apps/train_stage.py stage=qmf …                  on the GPUs there are
    torchrun --nproc_per_node 2 apps/train_stage.py stage=qmf …        several processes, on CPUs too

Settings come from FILE, else from configs/STAGE.yaml beside this script, and from key=value: `epochs=3`,
`data.shards=FOLDER`, `optimizer.learning_rate=1e-4`. Without data.shards the built-in corpus is rendered and taken.
What was interrupted goes on where it was when it is called again. weights=FILE measures a saved stage instead,
weights=PRESET one that comes with atrac-codec.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atrac_codec import DECODERS, ENCODERS, Trained
from atrac_codec.checkpoint import describe, load_stage
from atrac_train.launch import CONFIGS, App, launch
from atrac_train.objective import Objective
from atrac_train.objectives import OBJECTIVES
from atrac_train.settings import TrainingSettings

DEFAULT_STAGE = "qmf"


def configs(stated: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """Return the stage's own file, or what all share, and the stage where none is named."""
    stage = stated.get("stage", DEFAULT_STAGE)
    own = CONFIGS / f"{stage}.yaml"
    return [own if own.exists() else CONFIGS / "base.yaml"], [] if "stage" in stated else [f"stage={stage}"]


def load(settings: TrainingSettings, weights: str) -> tuple[TrainingSettings, Objective]:
    """Return what measures a saved stage. Raises: AtracError, OSError, ValueError."""
    path = shipped(weights, settings.stage)
    stage = load_stage(path, settings.stage)
    settings = replace(settings, model=describe(path)["settings"])
    objective = APP.build(settings)
    objective.stage.load_state_dict(stage.state_dict())
    return settings, objective


def shipped(weights: str, role: str) -> Path:
    """Return where a preset's or a decoder's stage of a role is saved, or the path as it is if it names none.

    Raises: ValueError: that stage of the preset is not learned.
    """
    stages = {**ENCODERS.get(weights, {}), **DECODERS.get(weights, {})}
    if not stages:
        return Path(weights)
    if not isinstance(stage := stages.get(role), Trained):
        raise ValueError(f"preset {weights}: its {role} is not learned")
    return stage.path


APP = App(__doc__, OBJECTIVES, configs, load)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure and save a stage; return the exit code."""
    return launch(APP, argv)


if __name__ == "__main__":
    sys.exit(main())
