"""One session per question: `nox -l` lists them, `nox -s NAME` asks."""

from __future__ import annotations

import platform
import shutil
import sys
import tomllib
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).parent
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = list(WORKSPACE["tool"]["house"]["packages"])
"""Lowest floor first, so that every package comes after those it needs."""

PYTEST = ["-n", "auto", "-p", "no:benchmark"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""One process per core with one thread each: threads that wait for each other on a busy core crawl."""

FUZZ_TARGETS = ["sound_unit", "aea", "decode", "audio"]

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = True


_built: list[str] = []
"""Sessions that have built dist/ in this run."""


def group(*names: str) -> list[str]:
    return [requirement for name in names for requirement in WORKSPACE["dependency-groups"][name]]


def with_needs(package: str) -> list[str]:
    """Return a package after all of the house that it needs, and that these need in turn."""
    needs = WORKSPACE["tool"]["house"]["packages"][package]["needs"]
    return list(dict.fromkeys([*(name for need in needs for name in with_needs(need)), package]))


def test_groups(*packages: str) -> list[str]:
    """Return what tests need: what all do, and what single packages do by a group of their name."""
    own = [package for package in packages if package in WORKSPACE["dependency-groups"]]
    return group("test", *own)


def install(session: nox.Session, *requirements: str, python: str | None = None) -> None:
    """Install all packages of this tree, editable and in one call so that siblings come from here, and more."""
    editable = [part for package in PACKAGES for part in ("-e", f"packages/{package}")]
    arguments = ["-c", "constraints.txt", *editable, *requirements]
    if python is None:
        session.install(*arguments)
    else:
        session.run(python, "-m", "pip", "install", *arguments, external=True)


def wheels(session: nox.Session) -> None:
    """Build every package into dist/, with nothing older beside it."""
    session.install("-c", "constraints.txt", "hatch")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for package in PACKAGES:
        with session.chdir(ROOT / "packages" / package):
            session.run("hatch", "version")
            session.run("hatch", "build", str(ROOT / "dist"))
    _built.append(session.name)


@nox.session
def demo(session: nox.Session) -> None:
    """Encode a built-in sound, or the FILE after --, decode it, and show what became of it."""
    install(session)
    session.run("python", "apps/demo.py", *session.posargs)


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Make .venv with everything editable, for work on the project."""
    python = ROOT / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        session.run(sys.executable, "-m", "venv", str(ROOT / ".venv"), external=True)
    install(session, *test_groups(*PACKAGES), *group("outside-decoder", "lint", "types"), python=str(python))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests that take seconds, or those of the PACKAGE after --."""
    run_tests(session)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take long, or those of the PACKAGE after --."""
    run_tests(session, "-m", "slow")


def run_tests(session: nox.Session, *options: str) -> None:
    """Run the tests and the examples in docstrings and documents, of all packages or of those that were named."""
    names = [argument for argument in session.posargs if argument in PACKAGES]
    rest = [argument for argument in session.posargs if argument not in PACKAGES]
    install(session, *test_groups(*PACKAGES), *group("outside-decoder"))
    folders = [
        path
        for name in names or PACKAGES
        for path in (f"packages/{name}/src", f"packages/{name}/tests", f"packages/{name}/README.md")
    ]
    whole = [] if names else ["tests", "README.md", "docs/format.md"]
    session.run("pytest", *PYTEST, *options, *folders, *whole, *rest, env=ONE_THREAD)


@nox.session
def bitexact(session: nox.Session) -> None:
    """Hold the bit-exact chain against the golden vectors, FFmpeg, and pytrac where it can be imported."""
    install(session, *group("test", "outside-decoder"))
    session.run("pytest", *PYTEST, "-v", "tests/bitexact", *session.posargs, env=ONE_THREAD)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Try made-up bytes on all that reads files, 60 s for each target, or SECONDS and TARGET names after --."""
    targets = [argument for argument in session.posargs if not argument.isdigit()]
    seconds = next((argument for argument in session.posargs if argument.isdigit()), "60")
    try:
        session.install("--only-binary=atheris", *group("fuzz"))
    except CommandFailed:
        version = ".".join(map(str, sys.version_info[:2]))
        session.error(
            f"no atheris for Python {version} on {platform.system()} {platform.machine()}: there are wheels for "
            "Linux on x86_64, in version 3 for Python 3.11 to 3.14. `nox -s tests` runs the targets without it."
        )
    install(session)
    for target in targets or FUZZ_TARGETS:
        session.run("python", "tests/fuzz/run.py", target, seconds)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and source distribution of every package into dist/."""
    wheels(session)


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def alone(session: nox.Session, package: str) -> None:
    """Test each wheel in its own environment, with what it declares and nothing else."""
    if not _built:
        wheels(session)
    found = [next((ROOT / "dist").glob(f"{name.replace('-', '_')}-*.whl")) for name in with_needs(package)]
    scratch = Path(session.create_tmp()).resolve() / package
    session.run("python", "-m", "venv", "--clear", str(scratch))
    python = str(scratch / "bin" / "python")
    session.run(python, "-m", "pip", "install", "-q", "-c", "constraints.txt", *map(str, found), external=True)
    session.run(python, "tools/check_wheel.py", package, external=True)
    session.run(python, "-m", "pip", "install", "-q", "-c", "constraints.txt", *test_groups(package), external=True)

    outside = scratch / "outside"
    shutil.copytree(ROOT / "packages" / package / "tests", outside / "tests")
    shutil.copy(ROOT / "packages" / package / "README.md", outside)
    with session.chdir(outside):
        config = str(ROOT / "pyproject.toml")
        arguments = [*PYTEST, "-c", config, "--rootdir", ".", "tests", "README.md"]
        session.run(python, "-m", "pytest", *arguments, external=True, env=ONE_THREAD)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed, each thing against a peer in the same run."""
    install(session, *group("test", "outside-decoder"))
    files = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("packages/*/benchmarks/bench_*.py"))
    session.run("pytest", "--benchmark-only", "--benchmark-group-by=group", *files, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, and that imports go down the house's floors only."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "tools/check_house.py")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all packages."""
    install(session, *group("types"))
    modules = [f"packages/{package}/src/{package.replace('-', '_')}" for package in PACKAGES]
    session.run("mypy", *modules)
    session.run("mypy", "apps", "tools")


@nox.session
def docs(session: nox.Session) -> None:
    """Write the packages' documentation as web pages into site/."""
    install(session, "pdoc>=15")
    modules = [package.replace("-", "_") for package in PACKAGES]
    session.run("pdoc", "--docformat", "google", "-o", "site", *modules)
