"""Fine-tune a whole codec end to end, from sound to sound, measure it, and save it as a codec folder.

    python apps/finetune_e2e.py [--config FILE] [key=value …]

`--help` tells the rest. The code is in `atrac_train.finetune_e2e`.
"""

import sys

from atrac_train.finetune_e2e import main

if __name__ == "__main__":
    sys.exit(main())
