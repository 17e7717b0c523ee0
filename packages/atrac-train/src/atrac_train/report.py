"""What a training leaves at its end: scores of the splits it was not trained on, pictures, weights, metrics.json."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any, Final

from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from atrac_train.data import TrainingData
from atrac_train.pictures import PICTURES, draw_curve
from atrac_train.settings import TrainingSettings
from atrac_train.tracking import Line, read_log, write_json

PICTURED_RUNS: Final = 4
"""Runs of the validation split that are drawn."""


def report(
    data: TrainingData, settings: TrainingSettings, accelerator: Accelerator, trained: dict[str, Any], weights: str = ""
) -> None:
    """Measure an objective on what it was not trained on, draw it, and write metrics.json last.

    Args:
        data: what is read, and the objective.
        settings: those of the training.
        accelerator: all ranks measure, the first one writes.
        trained: what `train` returned, to save the weights too; empty to measure saved weights, in evaluation/.
        weights: name of the saved weights.

    Raises: AtracError, OSError
    """
    metrics: dict[str, Any] = {"stage": settings.stage, **data.measure(), "settings": settings.as_dict()}
    if trained and (origin := data.objective.origin()) is not None:
        metrics["start"] = data.of(origin.to(accelerator.device)).measure()
    if not accelerator.is_main_process:
        return
    known = data.about() if trained else {}
    folder = settings.folder if trained else settings.folder / "evaluation"
    pictures: list[Path] = []
    if (draw := PICTURES.get(settings.stage)) is not None:
        examples = [example for _, example in data.examples("validation", PICTURED_RUNS)]
        pictures += draw(data.objective, examples, folder / "pictures")
    if trained:
        lines, start = read_log(folder / "log.jsonl"), metrics.get("start", {}).get("validation", {})
        pictures.append(draw_curve(lines, folder / "curve.png", start.get("loss")))
        metrics |= trained
        path = data.objective.save(folder / "weights", settings.stage, _sheet(metrics, lines, known))
        weights = str(path.relative_to(folder))
    metrics["weights"] = weights
    show(metrics)
    for one in (*pictures, *([folder / weights] if trained else []), folder / "metrics.json"):
        print(one)
    write_json(folder / "metrics.json", metrics)


def _sheet(metrics: dict[str, Any], lines: list[Line], data: dict[str, Any]) -> dict[str, Any]:
    """Return what is known about trained weights, for the JSON file beside them."""
    versions = ("atrac-data", "accelerate", "numpy", "webdataset")
    return {
        "training settings": metrics["settings"],
        "seed": metrics["settings"]["seed"],
        "training data": data,
        "licences": list(data["recordings"]),
        "curve": [[line["step"], line["train"]["loss"], line["validation"]["loss"]] for line in lines],
        "metrics": {split: metrics[split] for split in ("start", "validation", "test") if split in metrics},
        "seconds": metrics["seconds"],
        "ranks": metrics["ranks"],
        "training versions": {name: importlib.metadata.version(name) for name in versions},
    }


def show(metrics: dict[str, Any]) -> None:
    """Print losses and scores as a table, with those before the training if they were measured."""
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
