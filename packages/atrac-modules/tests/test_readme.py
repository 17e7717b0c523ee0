from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import atrac_modules


def test_readme_example_runs():
    failed, tried = doctest.testfile(str(Path(__file__).parents[1] / "README.md"), module_relative=False)
    assert tried > 5
    assert not failed


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(atrac_modules.__path__)])
def test_docstring_examples_run(name: str):
    module = importlib.import_module(f"atrac_modules.{name}")
    assert not doctest.testmod(module, extraglobs={"torch": importlib.import_module("torch")}).failed
