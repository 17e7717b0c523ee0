"""What a training leaves at its end: scores of the splits it was not trained on, pictures, weights, metrics.json."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any, Final

from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from atrac_bitstream import write_whole
from atrac_train.data import TrainingData
from atrac_train.loop import evaluate
from atrac_train.pictures import PICTURES, draw_curve
from atrac_train.settings import TrainingSettings
from atrac_train.state import State
from atrac_train.tracking import plain, read_log

PICTURED_RUNS: Final = 4
"""Runs of the validation split that are drawn."""


def report_training(data: TrainingData, settings: TrainingSettings, state: State, accelerator: Accelerator) -> None:
    """Measure what was trained, draw it, save its weights, and write metrics.json last. Raises: AtracError, OSError."""
    folder = settings.folder
    metrics = _measured(settings, data)
    if (origin := data.objective.origin()) is not None:
        metrics["start"] = _both_splits(data.of(origin.to(accelerator.device)))
    metrics |= {"epochs": state.epoch, "best_epoch": state.best_epoch}
    metrics |= {"seconds": round(state.seconds, 1), "ranks": state.ranks}
    if not accelerator.is_main_process:
        return
    log = read_log(folder / "log.jsonl")
    pictures = _pictures(settings, data, folder)
    pictures.append(draw_curve(log, folder / "curve.png", metrics.get("start", {}).get("validation", {}).get("loss")))
    known = data.about()
    sheet = {
        "training settings": settings.as_dict(),
        "seed": settings.seed,
        "training data": known,
        "licences": list(known["recordings"]),
        "curve": [[line["step"], line["train"]["loss"], line["validation"]["loss"]] for line in log],
        "metrics": {split: metrics[split] for split in ("start", "validation", "test") if split in metrics},
        "seconds": metrics["seconds"],
        "ranks": metrics["ranks"],
        "training versions": {
            name: importlib.metadata.version(name) for name in ("atrac-data", "accelerate", "numpy", "webdataset")
        },
    }
    weights = data.objective.save(folder / "weights", settings.stage, sheet)
    metrics["weights"] = str(weights.relative_to(folder))
    _write(metrics, folder, [*pictures, weights])


def report_weights(data: TrainingData, settings: TrainingSettings, weights: str, accelerator: Accelerator) -> None:
    """Measure saved weights and draw what they do, in the folder evaluation/. Raises: AtracError, OSError."""
    metrics = _measured(settings, data) | {"weights": weights}
    if accelerator.is_main_process:
        folder = settings.folder / "evaluation"
        _write(metrics, folder, _pictures(settings, data, folder))


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


def _measured(settings: TrainingSettings, data: TrainingData) -> dict[str, Any]:
    return {"stage": settings.stage, **_both_splits(data), "settings": settings.as_dict()}


def _both_splits(data: TrainingData) -> dict[str, Any]:
    """Return losses and scores of both splits that are not trained on."""
    measured = {}
    for split in ("validation", "test"):
        losses, scores = evaluate(data, split)
        named = {name if name == "loss" else f"loss {name}": value for name, value in losses.items()}
        measured[split] = plain({**named, **scores})
    return measured


def _pictures(settings: TrainingSettings, data: TrainingData, folder: Path) -> list[Path]:
    """Draw some runs of the validation split, if there are pictures of what was trained."""
    if (draw := PICTURES.get(settings.stage)) is None:
        return []
    examples = [example for _, example in data.examples("validation", PICTURED_RUNS)]
    return draw(data.objective, examples, folder / "pictures")


def _write(metrics: dict[str, Any], folder: Path, others: list[Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.json"
    write_whole(path, (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())
    show(metrics)
    for one in (*others, path):
        print(one)
