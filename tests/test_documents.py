"""The documents say what is so: links lead somewhere, every convention has its test, tables are what tools write."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from atrac_train.evaluation.kinds import SPEECH, read_kinds

ROOT = Path(__file__).parents[1]
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
    assert set(re.findall(r"`(\w+)`", listed[1])) == sessions - {"install", "wheels", "run_tests"}


@pytest.mark.parametrize(
    ("tool", "document"),
    [("model_card", "packages/atrac-codec/src/atrac_codec/weights/README.md"), ("results", "docs/results.md")],
)
def test_generated_documents_are_what_their_tools_write(tool: str, document: str):
    write = runpy.run_path(str(ROOT / f"tools/{tool}.py"))["text"]
    assert (ROOT / document).read_text(encoding="utf-8") == write()


def test_kinds_of_the_recordings_in_the_results_can_be_read():
    assert SPEECH in read_kinds(ROOT / "apps/configs/kinds.json").values()
