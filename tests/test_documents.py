"""The documents say what is so: examples run, links lead somewhere, every convention has its test."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(p.name for p in (ROOT / "packages").iterdir() if p.is_dir())
DOCUMENTS = sorted(
    p.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "packages/*/*.md", "tests/**/*.md")
    for p in ROOT.glob(pattern)
)
CONVENTIONS = [
    line.split("|")[3].strip()
    for line in (ROOT / "docs/conventions.md").read_text().splitlines()
    if re.match(r"\|(?! what |---)", line)
]


EXAMPLES = [document for document in DOCUMENTS if ">>>" in (ROOT / document).read_text()]


def test_readmes_and_the_specification_have_examples():
    assert {"README.md", "docs/format.md", *(f"packages/{p}/README.md" for p in PACKAGES)} <= set(map(str, EXAMPLES))


@pytest.mark.parametrize("document", EXAMPLES, ids=str)
def test_examples_run(document: Path):
    failed, tried = doctest.testfile(str(ROOT / document), module_relative=False)
    assert tried > 5
    assert not failed


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (ROOT / document.parent / target).exists(), target


def test_every_convention_has_a_test_that_exists():
    assert len(CONVENTIONS) > 20
    for name in CONVENTIONS:
        file, _, function = name.partition("::")
        text = (ROOT / file).read_text()
        if function:
            assert f"def {function}(" in text, name


def test_commands_of_the_readme_are_sessions():
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    named = set(re.findall(r"nox -s (\w+)", (ROOT / "README.md").read_text()))
    assert {"demo", "tests"} <= named <= sessions
    listed = re.search(r"lists the sessions: ([^.]*)\.", (ROOT / "README.md").read_text())
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == sessions - {"install", "wheels"}


def test_ci_runs_what_the_readme_says():
    assert "nox -s tests" in (ROOT / ".ci/run").read_text()


def test_the_model_card_is_what_the_weights_say():
    spec = importlib.util.spec_from_file_location("model_card", ROOT / "tools/model_card.py")
    assert spec is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)  # type: ignore[union-attr]
    assert (tool.WEIGHTS / "README.md").read_text(encoding="utf-8") == tool.card()
