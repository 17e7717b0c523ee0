"""The way from a command line to trained weights, which all training apps share.

settings ─ objective ─ data ─ loop ─ report: metrics, pictures, weights
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from atrac_bitstream import AtracError
from atrac_train.data import TrainingData, corpus_shards
from atrac_train.loop import train
from atrac_train.objective import Objective
from atrac_train.report import report, show
from atrac_train.settings import TrainingSettings, claim, explain_settings, read_overrides, read_settings

CONFIGS: Final = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class App:
    """What differs between training apps.

    Args:
        doc: help text of the command line.
        objectives: what can be trained, by the setting `stage`.
        config: returns the file to read settings from unless the command line names some, given the stage that the
            command line states.
        stage: the stage if the command line states none.
    """

    doc: str
    objectives: Mapping[str, type[Objective]]
    config: Callable[[str], Path]
    stage: str

    def build(self, settings: TrainingSettings, weights: str | None = None) -> Objective:
        """Build what is trained, or what measures saved weights. The seed fixes the first weights.

        Raises: ValueError; AtracError, OSError: the saved weights cannot be read.
        """
        if settings.stage not in self.objectives:
            raise ValueError(f"stage = {settings.stage!r}, allowed {', '.join(self.objectives)}")
        objective = self.objectives[settings.stage]
        torch.manual_seed(settings.seed)
        try:
            if weights is not None:
                return objective.saved(weights, settings.stage, settings.objective)
            return objective(settings.model, **settings.objective)
        except TypeError as error:
            raise ValueError(f"model or objective settings of stage {settings.stage}: {error}") from error


def launch(app: App, argv: Sequence[str] | None = None) -> int:
    """Train, measure and save what a command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=app.doc, epilog=explain_settings(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", metavar="key=value", nargs="*", help="settings; they count more than files")
    parser.add_argument("--config", metavar="FILE", action="append", help="settings in YAML; may be repeated")
    arguments = parser.parse_intermixed_args(argv)
    try:
        stated = read_overrides(arguments.settings)
        weights = stated.pop("weights", None)
        stage = str(stated.get("stage", app.stage))
        defaults = [] if "stage" in stated or arguments.config else [f"stage={stage}"]
        overrides = [one for one in arguments.settings if not one.startswith("weights=")]
        settings = read_settings(arguments.config or [app.config(stage)], [*defaults, *overrides])
        accelerator = Accelerator(
            mixed_precision="bf16" if settings.precision == "bf16" else "no",
            step_scheduler_with_optimizer=False,
            # Ranks wait for the first one, which may render and extract for long.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=datetime.timedelta(days=30))],
        )
        _run(app, settings, None if weights is None else str(weights), accelerator)
    except (AtracError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    accelerator.wait_for_everyone()
    # The wrapped model keeps the process group's threads alive, which must not outlive the interpreter.
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()
    return 0


def _run(app: App, settings: TrainingSettings, weights: str | None, accelerator: Accelerator) -> None:
    """Train, or measure saved weights, or do this rank's share of it; a finished training is only shown."""
    first, ranks, folder = accelerator.is_main_process, accelerator.num_processes, settings.folder
    objective = app.build(settings, weights).to(accelerator.device)
    if first:
        print(f"stage {settings.stage}, {ranks} rank{'s' * (ranks > 1)}, {accelerator.device}, in {folder}")
    if weights is None:
        claim(settings, write=first)
        accelerator.wait_for_everyone()
        if (done := folder / "metrics.json").exists():
            if first:
                print(f"finished already, see {done}; choose another output to train anew")
                show(json.loads(done.read_text()))
            return
    data = _open_data(settings, objective, accelerator)
    trained = train(data, settings, accelerator) if weights is None else {}
    report(data, settings, accelerator, trained, weights or "")


def _open_data(settings: TrainingSettings, objective: Objective, accelerator: Accelerator) -> TrainingData:
    """Open the shards; without any, the first rank makes those of the built-in corpus."""
    if not settings.data.shards and accelerator.is_main_process:
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} s of sound")
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("built-in corpus", total=None)
            corpus_shards(
                settings.folder, settings.data, objective.fields, lambda seconds: progress.advance(task, seconds)
            )
    accelerator.wait_for_everyone()
    rank, world = accelerator.process_index, accelerator.num_processes
    return TrainingData(objective, settings, accelerator.device, rank, world)
