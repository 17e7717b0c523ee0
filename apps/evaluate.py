"""Compare encoders, or decoders, on recordings: every encoder's files through every decoder, in numbers.

    python apps/evaluate.py FOLDER [--encoder NAME …] [--decoder NAME …] [--report]

`--help` tells the rest. The code is in `atrac_train.evaluation.evaluate`.
"""

import sys

from atrac_train.evaluation.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
