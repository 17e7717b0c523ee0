from __future__ import annotations

import sys
from types import ModuleType

import pytest

from atrac_codec.outside import load_pytrac


def test_without_pytrac_its_repository_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytrac", None)
    with pytest.raises(ImportError, match=r"pytrac is not installed; it is built from github\.com/aynik/pytrac"):
        load_pytrac()


def test_the_ticket_library_of_that_name_is_told_apart(monkeypatch):
    stranger = ModuleType("pytrac")
    stranger.__file__ = "/somewhere/pytrac/__init__.py"
    monkeypatch.setitem(sys.modules, "pytrac", stranger)
    with pytest.raises(ImportError, match=r"no codec but another pytrac; .* github.com/aynik/pytrac"):
        load_pytrac()
