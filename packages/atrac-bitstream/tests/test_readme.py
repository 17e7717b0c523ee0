"""The README and the docstrings say what the code does: their examples run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import atrac_bitstream

README = Path(__file__).parents[1] / "README.md"
MODULES = ["atrac_bitstream"]
MODULES += [module.name for module in pkgutil.iter_modules(atrac_bitstream.__path__, "atrac_bitstream.")]
needs_readme = pytest.mark.skipif(not README.exists(), reason="the tests lie alone, without the README")


@needs_readme
def test_readme_examples() -> None:
    result = doctest.testfile(str(README), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@needs_readme
def test_readme_lists_every_public_name() -> None:
    text = README.read_text(encoding="utf-8")
    names = set(atrac_bitstream.__all__) - {"__version__"}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_every_public_name_exists_and_has_a_docstring() -> None:
    assert len(set(atrac_bitstream.__all__)) == len(atrac_bitstream.__all__)
    for name in atrac_bitstream.__all__:
        value = getattr(atrac_bitstream, name)
        if callable(value):
            assert value.__doc__, name


def test_every_error_is_of_one_root() -> None:
    kinds = [getattr(atrac_bitstream, name) for name in atrac_bitstream.__all__ if name.endswith("Error")]
    assert len(kinds) == 4
    assert all(issubclass(kind, atrac_bitstream.AtracError) for kind in kinds)


def test_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", atrac_bitstream.__version__)
