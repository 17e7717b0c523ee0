"""Hold the tree to the house in pyproject.toml: who imports whom, what is declared, which stage has which contract.

    python tools/check_house.py

Imports go down the floors, no files import each other in a circle, no script is imported by another file, no file of
product code is longer than 300 lines. Reads source as text; nothing is imported or run.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONTRACTS = "packages/atrac-modules/tests/test_{}.py"
IMPORT_NAMES = {"pyyaml": "yaml"}
"""Distributions whose module has another name."""
LONGEST = 300
"""Lines of a file, tables excepted."""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything that a file imports, `package.module.name` for `from … import name`."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." if node.level else node.module or "."
            yield from ((node.lineno, module if module == "." else f"{module}.{alias.name}") for alias in node.names)


def declared(package: Path) -> set[str]:
    """Return the module names of a package's dependencies and extras."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    names = {re.match(r"[\w.-]+", requirement)[0] for requirements in lists for requirement in requirements}  # type: ignore[index]
    return {IMPORT_NAMES.get(name.lower(), name.lower().replace("-", "_")) for name in names}


def check_imports(packages: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the imports."""
    modules = {name.replace("-", "_"): name for name in packages}
    for name, row in packages.items():
        for need in row["needs"]:
            if packages[need]["floor"] >= row["floor"]:
                yield f"pyproject.toml: {name} (floor {row['floor']}) needs {need} (floor {packages[need]['floor']})"
        folder = ROOT / "packages" / name
        allowed = declared(folder)
        if siblings := allowed & set(modules):
            missing = siblings ^ {need.replace("-", "_") for need in row["needs"]}
            if missing:
                yield f"packages/{name}/pyproject.toml: the house and the dependencies differ by {sorted(missing)}"
        for path in sorted((folder / "src").rglob("*.py")):
            for line, dotted in imported(path):
                module = dotted.split(".")[0] or "."
                own = modules.get(module) == name
                if module == ".":
                    yield f"{path.relative_to(ROOT)}:{line}: relative import"
                elif not own and module not in sys.stdlib_module_names and module not in allowed:
                    yield f"{path.relative_to(ROOT)}:{line}: imports {module}, which {name} does not declare"


def check_circles(files: Mapping[str, Path]) -> Iterator[str]:
    """Yield a circle of files that import each other, if there is one.

    Args:
        files: module name to its file.
    """
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        names = {dotted for _, dotted in imported(path)}
        # `from package.module import name` names a module of its own, or else something in the module before.
        graph[module] = {own for own in (n if n in files else n.rpartition(".")[0] for n in names) if own in files}
        graph[module].discard(module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "files that import each other in a circle: " + " <- ".join(error.args[1])


def check_files(files: Mapping[str, Path], scripts: list[Path]) -> Iterator[str]:
    """Yield files that are too long, and imports of scripts."""
    for path in [*files.values(), *scripts]:
        name, lines = str(path.relative_to(ROOT)), len(path.read_text().splitlines())
        if "_table_" not in name and lines > LONGEST:
            yield f"{name}: {lines} lines, allowed {LONGEST}"
    names = {path.stem for path in scripts}
    everything = [*files.values(), *scripts, *ROOT.glob("packages/*/tests/**/*.py"), *ROOT.glob("tests/**/*.py")]
    for path in everything:
        for line, dotted in imported(path):
            if dotted.split(".")[0] in names:
                yield f"{path.relative_to(ROOT)}:{line}: imports the script {dotted.split('.')[0]}.py"


def check_roles(roles: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong with the stages: each role its file, its abstract class, its siblings, its contract."""
    for role, abstract in roles.items():
        path = ROOT / f"packages/atrac-modules/src/atrac_modules/{role}.py"
        classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        everywhere = [node for file in path.parent.glob("*.py") for node in ast.parse(file.read_text()).body]
        siblings = {
            node.name
            for node in everywhere
            if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == abstract for b in node.bases)
        }
        where = path.relative_to(ROOT)
        if abstract not in {c.name for c in classes}:
            yield f"{where}: no class {abstract}"
        if f"Reference{abstract}" not in siblings:
            yield f"{where}: no class Reference{abstract}({abstract})"
        contract = ROOT / CONTRACTS.format(role)
        if not contract.exists():
            yield f"{contract.relative_to(ROOT)}: missing"
            continue
        for name in sorted(siblings):
            if not re.search(rf"\b{name}\b", contract.read_text()):
                yield f"{contract.relative_to(ROOT)}: {name} has not joined the contract"


def main() -> int:
    """Print everything wrong; return 1 if there is something."""
    house = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["house"]
    folders = ROOT.glob("packages/*/src")
    sources = {path: path.relative_to(folder) for folder in folders for path in folder.rglob("*.py")}
    files = {".".join(own.with_suffix("").parts).removesuffix(".__init__"): path for path, own in sources.items()}
    wrong = [
        *check_imports(house["packages"]),
        *check_circles(files),
        *check_files(files, sorted(ROOT.glob("apps/*.py"))),
        *check_roles(house["roles"]),
    ]
    print("\n".join(wrong) or f"{len(house['packages'])} packages and {len(house['roles'])} roles as in pyproject.toml")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
