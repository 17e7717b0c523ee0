"""Check a freshly installed wheel: it lies in site-packages, and only what it declares came with it.

python tools/check_wheel.py PACKAGE
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import distributions
from pathlib import Path

ONLY = {
    "atrac-bitstream": {"atrac-bitstream", "numpy"},
    "atrac-runtime": {"atrac-bitstream", "atrac-runtime", "numpy", "numba", "llvmlite", "platformdirs"},
}
"""Packages for which the whole environment is known."""
TOOLS = {"pip", "setuptools"}


def main(package: str) -> int:
    """Print what is wrong; return 1 if there is something."""
    file = Path(importlib.import_module(package.replace("-", "_")).__file__ or "")
    installed = {d.metadata["Name"].lower() for d in distributions()} - TOOLS
    print(f"{package} from {file.parent}, with {', '.join(sorted(installed - {package}))}")
    if "site-packages" not in file.parts:
        print(f"{package} was imported from outside site-packages")
        return 1
    if package in ONLY and installed != ONLY[package]:
        print(f"installed {sorted(installed)}, allowed {sorted(ONLY[package])}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
