"""Fine-tune the whole codec end to end, from sound to sound, measure it, and save it as a codec folder.

    python apps/finetune_e2e.py [--config FILE] [key=value …]
    accelerate launch apps/finetune_e2e.py …                      on the GPUs there are
    torchrun --nproc_per_node 2 apps/finetune_e2e.py …            several processes, on CPUs too

Settings come from FILE, else from configs/finetune_e2e.yaml beside this script, and from key=value: `epochs=3`,
`data.shards=FOLDER`, `objective.train.transient=0.1`, `objective.losses.nmr=1`. Without data.shards the built-in
corpus is rendered and taken. What was interrupted goes on where it was when it is called again. weights=FOLDER or
weights=PRESET measures a codec instead. The table shows the codec before and after. The folder OUTPUT/weights works
wherever a preset does: `atrac1 encode --preset OUTPUT/weights song.flac`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atrac_train.launch import CONFIGS, App, launch
from atrac_train.objective import Objective
from atrac_train.objectives.codec import CodecObjective
from atrac_train.settings import TrainingSettings


def configs(stated: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """Return the app's own file, whatever is stated."""
    return [CONFIGS / "finetune_e2e.yaml"], []


def load(settings: TrainingSettings, weights: str) -> tuple[TrainingSettings, Objective]:
    """Return what measures a preset or a codec folder, with its own decoder if it is a folder."""
    settings = replace(settings, model={}, objective={**settings.objective, "start": weights})
    return settings, APP.build(settings)


APP = App(__doc__, {"codec": CodecObjective}, configs, load)


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune, measure and save a codec; return the exit code."""
    return launch(APP, argv)


if __name__ == "__main__":
    sys.exit(main())
