"""Fine-tune a whole codec end to end, from sound to sound, measure it, and save it as a codec folder.

    python apps/finetune_e2e.py [--config FILE] [key=value …]
    accelerate launch apps/finetune_e2e.py …                      on the GPUs of this machine
    torchrun --nproc_per_node 2 apps/finetune_e2e.py …            several processes, on CPUs too

Settings come from FILE, else from the package's configs/finetune_e2e.yaml, and from key=value: `epochs=3`,
`data.shards=FOLDER`, `objective.train.transient=0.1`, `objective.losses.nmr=1`. Without data.shards the built-in
corpus is rendered and used. An interrupted training goes on when the same command is called again. weights=FOLDER or
weights=PRESET measures a codec instead. The table shows the codec before and after. The folder OUTPUT/weights can
replace a preset name: `atrac1 encode --preset OUTPUT/weights song.flac`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from atrac_train.launch import CONFIGS, App, launch
from atrac_train.objectives.codec import CodecObjective

APP = App(__doc__, {"codec": CodecObjective}, lambda stage: CONFIGS / "finetune_e2e.yaml", "codec")


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune, measure and save a codec; return the exit code."""
    return launch(APP, argv)


if __name__ == "__main__":
    sys.exit(main())
