"""Train a neural stage on ground truth, measure it on recordings it has not seen, and save its weights.

    python apps/train_stage.py stage=qmf [--config FILE] [key=value …]
    accelerate launch apps/train_stage.py stage=qmf …                  on the GPUs there are
    torchrun --nproc_per_node 2 apps/train_stage.py stage=qmf …        several processes, on CPUs too

Settings come from FILE, else from configs/STAGE.yaml beside this script, and from key=value: `epochs=3`,
`data.shards=FOLDER`, `optimizer.learning_rate=1e-4`. Without data.shards the built-in corpus is rendered and taken.
What was interrupted goes on where it was when it is called again. weights=FILE measures a saved stage instead,
weights=PRESET one that comes with atrac-codec.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from atrac_bitstream import AtracError
from atrac_codec import DECODERS, ENCODERS, Trained
from atrac_codec.checkpoint import describe, load_stage, save_stage
from training.data import TrainingData, corpus_shards
from training.loop import evaluate, examples, train
from training.objective import Objective
from training.settings import TrainingSettings, claim, parse_override, read_settings
from training.tracking import draw_curve, plain, read_log

CONFIGS = Path(__file__).parent / "configs"
DEFAULT_STAGE = "qmf"
PICTURED_RUNS = 4


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", metavar="key=value", nargs="*", help="settings, see training/settings.py")
    parser.add_argument(
        "--config", metavar="FILE", action="append", type=Path, help="settings in YAML; may be repeated"
    )
    return parser.parse_intermixed_args(argv)


def settings_of(args: argparse.Namespace) -> tuple[TrainingSettings, Path | None]:
    """Return the settings, and the weights to measure, if any. Raises: ValueError, OSError."""
    stated = dict(parse_override(one) for one in args.settings)
    weights = stated.get("weights")
    overrides = [one for one in args.settings if parse_override(one)[0] != "weights"]
    files = args.config
    if files is None:
        stage = stated.get("stage", DEFAULT_STAGE)
        own = CONFIGS / f"{stage}.yaml"
        files = [own if own.exists() else CONFIGS / "base.yaml"]
        overrides = overrides if "stage" in stated else [f"stage={stage}", *overrides]
    return read_settings(files, overrides), None if weights is None else Path(str(weights))


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure and save; return the exit code."""
    args = arguments(argv)
    try:
        settings, weights = settings_of(args)
        accelerator = Accelerator(
            mixed_precision="bf16" if settings.precision == "bf16" else "no",
            step_scheduler_with_optimizer=False,
            # Ranks wait for the first one, which may render and extract for long.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=datetime.timedelta(days=30))],
        )
        run(settings, weights, accelerator)
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


def run(settings: TrainingSettings, weights: Path | None, accelerator: Accelerator) -> None:
    """Do what the settings ask for, or this rank's share of it."""
    first, world, folder = accelerator.is_main_process, accelerator.num_processes, settings.folder
    if first:
        print(f"stage {settings.stage}, {world} {'ranks' if world > 1 else 'rank'}, {accelerator.device}, in {folder}")
    if weights is not None:
        path = shipped(weights, settings.stage)
        stage = load_stage(path, settings.stage)
        settings = replace(settings, model=describe(path)["settings"])
        objective = build(settings)
        objective.stage.load_state_dict(stage.state_dict())
        objective.to(accelerator.device)
        data = prepare_data(settings, objective, accelerator)
        report(objective, settings, data, accelerator, folder / "evaluation", {"weights": str(weights)})
        return
    objective = build(settings)
    claim(settings, write=first)
    accelerator.wait_for_everyone()
    if (done := folder / "metrics.json").exists():
        if first:
            print(f"finished already, see {done}; choose another output to train anew")
            show(json.loads(done.read_text()))
        return
    data = prepare_data(settings, objective, accelerator)
    state = train(objective, settings, data, accelerator, folder)
    about = {"epochs": state.epoch, "best_epoch": state.best_epoch, "seconds": round(state.seconds, 1), "ranks": world}
    report(objective, settings, data, accelerator, folder, about, save=True)


def build(settings: TrainingSettings) -> Objective:
    """Build what is trained; the seed fixes its first weights. Raises: ValueError."""
    from training.stages import OBJECTIVES

    if settings.stage not in OBJECTIVES:
        raise ValueError(f"stage = {settings.stage!r}, allowed {', '.join(OBJECTIVES)}")
    torch.manual_seed(settings.seed)
    try:
        objective: Objective = OBJECTIVES[settings.stage](settings.model, **settings.objective)
    except TypeError as error:
        raise ValueError(f"model or objective settings of stage {settings.stage}: {error}") from error
    return objective


def shipped(weights: Path, role: str) -> Path:
    """Return where a preset's or a decoder's stage of a role is saved, or the path as it is if it names none.

    Raises: ValueError: that stage of the preset is not learned.
    """
    stages = {**ENCODERS.get(str(weights), {}), **DECODERS.get(str(weights), {})}
    if not stages:
        return weights
    if not isinstance(stage := stages.get(role), Trained):
        raise ValueError(f"preset {weights}: its {role} is not learned")
    return stage.path


def prepare_data(settings: TrainingSettings, objective: Objective, accelerator: Accelerator) -> TrainingData:
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
    metrics: dict[str, Any] = {"stage": settings.stage}
    for split in ("validation", "test"):
        losses, scores = evaluate(objective, data, split, accelerator, settings.seed)
        named = {name if name == "loss" else f"loss {name}": value for name, value in losses.items()}
        metrics[split] = plain({**named, **scores})
    metrics |= {**about, "settings": settings.as_dict()}
    if not accelerator.is_main_process:
        return
    folder.mkdir(parents=True, exist_ok=True)
    shown = examples(objective, data.some_runs("validation", PICTURED_RUNS), accelerator.device, settings.seed)
    pictures = objective.draw(shown, folder / "pictures")
    if save:
        draw_curve(folder / "log.jsonl", folder / "curve.png")
        pictures.append(folder / "curve.png")
        path = save_stage(objective.stage, folder / "weights", settings.stage, sheet(settings, data, metrics, folder))
        metrics["weights"] = str(path.relative_to(folder))
    temporary = folder / "metrics.part"
    temporary.write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, folder / "metrics.json")
    show(metrics)
    for path in (*pictures, folder / "metrics.json", *([folder / metrics["weights"]] if save else [])):
        print(path)


def sheet(settings: TrainingSettings, data: TrainingData, metrics: dict[str, Any], folder: Path) -> dict[str, Any]:
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
        "metrics": {split: metrics[split] for split in ("validation", "test")},
        "seconds": metrics["seconds"],
        "ranks": metrics["ranks"],
        "training versions": {
            name: importlib.metadata.version(name) for name in ("atrac-data", "accelerate", "numpy", "webdataset")
        },
    }


def show(metrics: dict[str, Any]) -> None:
    """Print losses and scores as a table."""
    table = Table("score", "validation", "test", title=f"stage {metrics['stage']}")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, value in metrics["validation"].items():
        values = (value, metrics["test"].get(name))
        table.add_row(name, *("–" if one is None else f"{one:.6g}" for one in values))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=120)).print(table)


if __name__ == "__main__":
    sys.exit(main())
