"""The fuzzing targets hold on their seeds, and on those with a few bytes changed. `nox -s fuzz` looks further."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

MODULE = runpy.run_path(str(Path(__file__).with_name("targets.py")))
MUTATIONS = {"sound_unit": 600, "aea": 300, "decode": 60, "audio": 200}


@pytest.mark.parametrize("name", MODULE["TARGETS"])
def test_target_holds_on_its_seeds(name: str):
    found = list(MODULE["seeds"](name))
    assert len(found) > 15
    for data in [b"", *found]:
        MODULE["TARGETS"][name](data)


@pytest.mark.parametrize("name", MODULE["TARGETS"])
def test_target_holds_on_changed_seeds(name: str):
    rng = np.random.default_rng(0)
    found = list(MODULE["seeds"](name))
    for k in range(MUTATIONS[name]):
        data = MODULE["changed"](found[k % len(found)], rng)
        try:
            MODULE["TARGETS"][name](data)
        except Exception as error:
            raise AssertionError(f"{name} on {data.hex()}") from error
