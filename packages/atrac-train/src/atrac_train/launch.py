"""The way from a command line to trained weights, which all training apps share.

settings ─ objective ─ data ─ loop ─ report: metrics, pictures, weights
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from atrac_bitstream import AtracError
from atrac_train.data import TrainingData, corpus_shards
from atrac_train.loop import evaluate, examples, train
from atrac_train.objective import Objective
from atrac_train.pictures import PICTURES
from atrac_train.settings import TrainingSettings, claim, parse_override, read_settings
from atrac_train.tracking import draw_curve, plain, read_log

CONFIGS: Final = Path(__file__).parent / "configs"
PICTURED_RUNS: Final = 4


@dataclass(frozen=True)
class App:
    """What tells one training app from another.

    Args:
        doc: help text of the command line.
        objectives: what can be trained, by the setting `stage`.
        configs: returns the files that settings are read from unless the command line names some, and more settings,
            given those of the command line.
        load: returns settings and objective of saved weights that are only to be measured.
    """

    doc: str
    objectives: Mapping[str, Callable[..., Objective]]
    configs: Callable[[Mapping[str, Any]], tuple[list[Path], list[str]]]
    load: Callable[[TrainingSettings, str], tuple[TrainingSettings, Objective]]

    def build(self, settings: TrainingSettings) -> Objective:
        """Build what is trained; the seed fixes its first weights. Raises: ValueError."""
        if settings.stage not in self.objectives:
            raise ValueError(f"stage = {settings.stage!r}, allowed {', '.join(self.objectives)}")
        torch.manual_seed(settings.seed)
        try:
            return self.objectives[settings.stage](settings.model, **settings.objective)
        except TypeError as error:
            raise ValueError(f"model or objective settings of stage {settings.stage}: {error}") from error


def launch(app: App, argv: Sequence[str] | None = None) -> int:
    """Train, measure and save what a command line asks for; return the exit code."""
    args = _arguments(app, argv)
    try:
        settings, weights = _settings(app, args)
        accelerator = Accelerator(
            mixed_precision="bf16" if settings.precision == "bf16" else "no",
            step_scheduler_with_optimizer=False,
            # Ranks wait for the first one, which may render and extract for long.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=datetime.timedelta(days=30))],
        )
        _run(app, settings, weights, accelerator)
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


def _arguments(app: App, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=app.doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", metavar="key=value", nargs="*", help="settings, see training/settings.py")
    parser.add_argument(
        "--config", metavar="FILE", action="append", type=Path, help="settings in YAML; may be repeated"
    )
    return parser.parse_intermixed_args(argv)


def _settings(app: App, args: argparse.Namespace) -> tuple[TrainingSettings, str | None]:
    """Return the settings, and the weights to measure, if any. Raises: ValueError, OSError."""
    stated = dict(parse_override(one) for one in args.settings)
    weights = stated.get("weights")
    overrides = [one for one in args.settings if parse_override(one)[0] != "weights"]
    files, more = app.configs(stated)
    if args.config is not None:
        files, more = args.config, []
    return read_settings(files, [*more, *overrides]), None if weights is None else str(weights)


def _run(app: App, settings: TrainingSettings, weights: str | None, accelerator: Accelerator) -> None:
    """Do what the settings ask for, or this rank's share of it."""
    first, world, folder = accelerator.is_main_process, accelerator.num_processes, settings.folder
    if first:
        print(f"stage {settings.stage}, {world} {'ranks' if world > 1 else 'rank'}, {accelerator.device}, in {folder}")
    if weights is not None:
        settings, objective = app.load(settings, weights)
        objective.to(accelerator.device)
        data = _prepare_data(settings, objective, accelerator)
        report(app, objective, settings, data, accelerator, folder / "evaluation", {"weights": weights})
        return
    objective = app.build(settings)
    claim(settings, write=first)
    accelerator.wait_for_everyone()
    if (done := folder / "metrics.json").exists():
        if first:
            print(f"finished already, see {done}; choose another output to train anew")
            show(json.loads(done.read_text()))
        return
    data = _prepare_data(settings, objective, accelerator)
    state = train(objective, settings, data, accelerator, folder)
    about = {"epochs": state.epoch, "best_epoch": state.best_epoch, "seconds": round(state.seconds, 1), "ranks": world}
    report(app, objective, settings, data, accelerator, folder, about, save=True)


def _prepare_data(settings: TrainingSettings, objective: Objective, accelerator: Accelerator) -> TrainingData:
    """Open the shards; without any, the first rank makes those of the built-in corpus."""
    shards = settings.data.shards
    if not shards:
        if accelerator.is_main_process:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} s of sound")
            with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
                task = progress.add_task("built-in corpus", total=None)
                corpus_shards(
                    settings.folder, settings.data, objective.fields, lambda seconds: progress.advance(task, seconds)
                )
        accelerator.wait_for_everyone()
        shards = str(settings.folder / "shards")
    return TrainingData(
        shards,
        settings.data,
        objective.fields,
        objective.frames,
        seed=settings.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )


def report(
    app: App,
    objective: Objective,
    settings: TrainingSettings,
    data: TrainingData,
    accelerator: Accelerator,
    folder: Path,
    about: dict[str, Any],
    *,
    save: bool = False,
) -> None:
    """Measure on what was not trained on, draw, save the weights, and write metrics.json last of all."""
    metrics: dict[str, Any] = {"stage": settings.stage, **_measure(objective, settings, data, accelerator)}
    if save and objective.fine_tunes:
        start = app.build(replace(settings, model={})).to(accelerator.device)
        metrics["start"] = _measure(start, settings, data, accelerator)
    metrics |= {**about, "settings": settings.as_dict()}
    if not accelerator.is_main_process:
        return
    folder.mkdir(parents=True, exist_ok=True)
    shown = examples(objective, data.some_runs("validation", PICTURED_RUNS), accelerator.device, settings.seed)
    draw: Any = PICTURES.get(settings.stage)
    pictures: list[Path] = draw(objective, shown, folder / "pictures") if draw else []
    if save:
        draw_curve(
            folder / "log.jsonl", folder / "curve.png", metrics.get("start", {}).get("validation", {}).get("loss")
        )
        pictures.append(folder / "curve.png")
        sheet = _sheet(settings, data, metrics, folder)
        path = objective.save(folder / "weights", settings.stage, sheet)
        metrics["weights"] = str(path.relative_to(folder))
    temporary = folder / "metrics.part"
    temporary.write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, folder / "metrics.json")
    show(metrics)
    for path in (*pictures, folder / "metrics.json", *([folder / metrics["weights"]] if save else [])):
        print(path)


def _measure(
    objective: Objective, settings: TrainingSettings, data: TrainingData, accelerator: Accelerator
) -> dict[str, Any]:
    """Return losses and scores of both splits that are not trained on."""
    measured = {}
    for split in ("validation", "test"):
        losses, scores = evaluate(objective, data, split, accelerator, settings.seed)
        named = {name if name == "loss" else f"loss {name}": value for name, value in losses.items()}
        measured[split] = plain({**named, **scores})
    return measured


def _sheet(settings: TrainingSettings, data: TrainingData, metrics: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Say what weights came from, for the file beside them."""
    known = data.about()
    return {
        "training settings": settings.as_dict(),
        "seed": settings.seed,
        "training data": {"name": settings.data.shards or "built-in corpus", **known},
        "licences": list(known["recordings"]),
        "curve": [
            [line["step"], line["train"]["loss"], line["validation"]["loss"]] for line in read_log(folder / "log.jsonl")
        ],
        "metrics": {split: metrics[split] for split in ("start", "validation", "test") if split in metrics},
        "seconds": metrics["seconds"],
        "ranks": metrics["ranks"],
        "training versions": {
            name: importlib.metadata.version(name) for name in ("atrac-data", "accelerate", "numpy", "webdataset")
        },
    }


def show(metrics: dict[str, Any]) -> None:
    """Print losses and scores as a table, those that training started from too, if there were any."""
    start = metrics.get("start", {})
    splits = ("validation", "test")
    names = [f"{split}{moment}" for split in splits for moment in ((", before", ", after") if start else ("",))]
    table = Table("score", *names, title=f"stage {metrics['stage']}")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in metrics["validation"]:
        tables = [one for split in splits for one in ([start[split]] if start else []) + [metrics[split]]]
        values = [one.get(name) for one in tables]
        table.add_row(name, *("–" if one is None else f"{one:.6g}" for one in values))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=120)).print(table)
