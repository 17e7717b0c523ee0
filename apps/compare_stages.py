"""Compare a codec with its teacher stage by stage: the error of each stage alone and in the chain.

    python apps/compare_stages.py [FOLDER] [--encoder PRESET] [--decoder NAME]

`--help` tells the rest. The code is in `atrac_train.evaluation.compare_stages`.
"""

import sys

from atrac_train.evaluation.compare_stages import main

if __name__ == "__main__":
    sys.exit(main())
