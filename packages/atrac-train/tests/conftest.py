"""What tests of the training apps share: a tiny corpus, and each app called anew on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from atrac_data import FIELDS
from atrac_train import finetune_e2e, train_allocator, train_stage
from atrac_train.data import corpus_shards
from atrac_train.settings import DataSettings
from atrac_train.tracking import read_log

APPS = {one.__name__.rpartition(".")[2]: one.main for one in (train_stage, train_allocator, finetune_e2e)}


@pytest.fixture(scope="session", autouse=True)
def cpu() -> Iterator[None]:
    """Train on the CPU with one thread, so that sums are added in the same order as in processes of their own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny built-in corpus with all fields."""
    settings = DataSettings(sounds=("music", "attacks"), seconds=0.4)
    return corpus_shards(tmp_path_factory.mktemp("tiny"), settings, FIELDS)


@pytest.fixture(scope="session")
def run(shards: Path) -> Callable[..., int]:
    """Call an app by its name on the tiny corpus; returns the exit code."""

    def run(app: str, *argv: str) -> int:
        try:
            return APPS[app]([f"data.shards={shards}", *argv])
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()

    return run


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrac_train.report.PICTURES", {})


@pytest.fixture
def fails(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call an app that must fail; returns its last line on standard error."""

    def fails(app: str, *argv: str) -> str:
        assert run(app, *argv) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("error: ")
        return last

    return fails


class Folder:
    """The output folder of a training."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log, less the seconds."""
        return [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(self.path / "log.jsonl")]

    @property
    def metrics(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / "metrics.json").read_text())
        return content

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured of saved weights, by split."""
        content = json.loads((self.path / "evaluation/metrics.json").read_text())
        return {split: content[split] for split in ("validation", "test")}

    def tensors(self, name: str = "best.pt") -> dict[str, torch.Tensor]:
        content: dict[str, torch.Tensor] = torch.load(self.path / name, weights_only=True)["objective"]
        return content


@pytest.fixture(scope="session")
def folder() -> type[Folder]:
    return Folder


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "out")


@pytest.fixture(scope="session")
def process(shards: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start an app as processes of its own."""

    def process(app: str, *argv: str, ranks: int = 0) -> subprocess.Popen[str]:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks else []
        command = [sys.executable, *torchrun, "-m", f"atrac_train.{app}", f"data.shards={shards}", *argv]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    return process
