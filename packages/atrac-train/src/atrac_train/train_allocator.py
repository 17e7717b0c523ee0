"""Teach the encoder of preset `neural` which noise is heard: first what a search decides, then what sounds better.

    python apps/train_allocator.py [stage=NAME] [--config FILE] [key=value …]
    accelerate launch apps/train_allocator.py …                       on a GPU, if there is one
    torchrun --nproc_per_node 2 apps/train_allocator.py stage=…       several processes, on CPUs too, a stage at a time

Without `stage`, both that the shipped weights went through, one after the other:

    distil        importances and choice of blocks, from what preset `rd` searches for
    perceptual    the allocator alone, end to end, on the decoded sound

`stage=joint` goes on with the choice of blocks and rounding, `stage=everything` with all stages of the encoder.
Settings come from FILE, else from configs/train_allocator/STAGE.yaml beside this script, and from key=value, which
counts for each stage: `data.shards=FOLDER`, `epochs=3`, `output=FOLDER`, in which each stage has a folder of its own.
What was interrupted goes on where it was when it is called again. weights=FOLDER or weights=PRESET measures a codec
instead that has learned the same, as `perceptual` does if no stage is named. The folder OUTPUT/STAGE/weights works
wherever a preset does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from atrac_train.launch import CONFIGS, App, launch
from atrac_train.objective import Objective
from atrac_train.objectives.codec import CodecObjective
from atrac_train.objectives.distillation import DistillationObjective
from atrac_train.settings import TrainingSettings

OBJECTIVES: Final = {
    "distil": DistillationObjective,
    "perceptual": CodecObjective,
    "joint": CodecObjective,
    "everything": CodecObjective,
}
SHIPPED: Final = ("distil", "perceptual")
"""What the shipped weights went through."""
OUTPUT: Final = "runs/train_allocator"


def configs(stated: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """Return the stage's own file, and where its folder is."""
    stage = stated.get("stage", SHIPPED[-1])
    if stage not in OBJECTIVES:
        raise ValueError(f"stage = {stage!r}, allowed {', '.join(OBJECTIVES)}")
    more = [] if "stage" in stated else [f"stage={stage}"]
    if "output" not in stated:
        more.append(f"output={OUTPUT}/{stage}")
    return [CONFIGS / "train_allocator" / f"{stage}.yaml"], more


def load(settings: TrainingSettings, weights: str) -> tuple[TrainingSettings, Objective]:
    """Return what measures a preset or a codec folder."""
    settings = replace(settings, model={}, objective={**settings.objective, "start": weights})
    return settings, APP.build(settings)


APP = App(__doc__, OBJECTIVES, configs, load)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure and save the stages that are asked for; return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    keys = [one.partition("=")[0] for one in argv]
    if "stage" in keys or "weights" in keys or any(one.startswith("-") for one in argv):
        return launch(APP, argv)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        print(f"error: several processes train one stage at a time: stage={', stage='.join(SHIPPED)}", file=sys.stderr)
        return 1
    folder = next((one.partition("=")[2] for one in reversed(argv) if one.startswith("output=")), OUTPUT)
    shared = [one for one in argv if not one.startswith("output=")]
    start: list[str] = []
    for stage in SHIPPED:
        if code := launch(APP, [*shared, f"stage={stage}", f"output={folder}/{stage}", *start]):
            return code
        start = [f"objective.start={folder}/{stage}/weights"]
    return 0


if __name__ == "__main__":
    sys.exit(main())
