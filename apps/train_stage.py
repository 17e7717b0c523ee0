"""Train a neural stage on ground truth, measure it on recordings it has not seen, and save its weights.

    python apps/train_stage.py stage=qmf [--config FILE] [key=value …]

`--help` tells the rest. The code is in `atrac_train.train_stage`.
"""

import sys

from atrac_train.train_stage import main

if __name__ == "__main__":
    sys.exit(main())
