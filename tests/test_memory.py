"""Encoding and decoding take no more memory for a long file. `measure_memory.py` measures this for hours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("measure_memory.py")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_length(tmp_path: Path):
    # The 105 s between the two are 18 MiB as 16-bit samples, 6 % of what either file takes; runs differ by up to 3 %.
    command = [sys.executable, str(SCRIPT), "--seconds", "15", "120", "--limit", "1.05"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
