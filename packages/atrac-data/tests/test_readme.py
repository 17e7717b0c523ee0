"""The README and the docstrings say what the code does: their examples run."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import atrac_data

README = Path(__file__).parents[1] / "README.md"
MODULES = [module.name for module in pkgutil.walk_packages(atrac_data.__path__, "atrac_data.")]


def test_readme_examples() -> None:
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_readme_lists_every_public_name() -> None:
    text = README.read_text(encoding="utf-8")
    assert [name for name in atrac_data.__all__ if f"`{name}`" not in text] == []
