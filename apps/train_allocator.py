"""Train the encoder of preset `neural`: its choice of block lengths.

    python apps/train_allocator.py [stage=NAME] [--config FILE] [key=value …]

`--help` tells the rest. The code is in `atrac_train.train_allocator`.
"""

import sys

from atrac_train.train_allocator import main

if __name__ == "__main__":
    sys.exit(main())
