from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

USE = """
import numpy as np
from atrac_runtime.kernels.compiled import CACHE, kernel

@kernel
def double(x):
    return 2 * x

print(double(21), CACHE)
"""


def run(tmp_path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "use.py"
    script.write_text(USE)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)


def test_compiled_code_is_kept_where_the_environment_says(tmp_path):
    result = run(tmp_path, tmp_path / "cache")
    assert result.stdout.startswith(f"42 {tmp_path / 'cache'}"), result.stderr
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert run(tmp_path, tmp_path / "cache").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == before, "compiled once"


@pytest.mark.parametrize("kind", ["file", "nowhere"])
def test_without_a_folder_to_write_each_process_compiles(kind: str, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("no folder")
    result = run(tmp_path, blocked if kind == "file" else blocked / "below")
    assert result.stdout.split()[0] == "42", result.stderr
