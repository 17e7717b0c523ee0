"""The loop that all trainings share: epochs of fixed length, evaluation, checkpoints, going on after a kill.

Every epoch draws from generators that seed, epoch and rank fix, and every evaluation from one that seed and run fix.
So a training that was killed and goes on from its checkpoint gives the curve that it would have given.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from atrac_bitstream import AtracError
from atrac_train.data import Batch, TrainingData, derived_seed
from atrac_train.objective import Objective, Scores, Tensors
from atrac_train.settings import OptimizerSettings, TrainingSettings
from atrac_train.tracking import Tracker

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
CALIBRATION_RUNS = 100


class TrainingError(AtracError):
    """A training cannot go on; the message says where and why."""


@dataclass(frozen=True)
class State:
    """How far a training is.

    Args:
        epoch: finished epochs; the log has as many lines.
        best_epoch: the one whose weights are kept: with the smallest validation loss, if not the last.
        best_loss: that loss.
        seconds: that the epochs took.
        ranks: processes that share the training.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    seconds: float = 0.0
    ranks: int = 1

    def finished(self, settings: TrainingSettings) -> bool:
        """Tell whether there is nothing left to do."""
        waited = self.epoch - self.best_epoch
        return self.epoch >= settings.epochs or (settings.patience > 0 and waited >= settings.patience)


def train(
    objective: Objective, settings: TrainingSettings, data: TrainingData, accelerator: Accelerator, folder: Path
) -> State:
    """Train until the epochs are over or the validation loss has not fallen for long, or go on with it.

    Args:
        objective: what is trained; afterwards it holds the weights of the best epoch, on the accelerator's device.
        settings: the training's.
        data: what is read.
        accelerator: made with `step_scheduler_with_optimizer=False`.
        folder: for checkpoint, best weights and log.

    Raises:
        TrainingError: a loss is not finite, the ranks' weights are not the same, or the checkpoint is not readable, of
            another model or of another number of ranks.
        AtracError, OSError: as reading the data and writing the folder do.
    """
    # Each rank reads the same data many times over, so a step of the schedule is a step of the optimizer on any number.
    rates = settings.optimizer
    groups = [
        {"params": group["params"], "lr": rates.learning_rate * group["rate"]} for group in objective.parameter_groups()
    ]
    optimizer = torch.optim.AdamW(
        groups,
        settings.optimizer.learning_rate,
        settings.optimizer.betas,
        weight_decay=settings.optimizer.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate(settings.optimizer, step, settings.steps) / settings.optimizer.learning_rate,
    )
    model, optimizer, schedule = accelerator.prepare(objective, optimizer, schedule)
    own = {"objective": objective, "optimizer": optimizer, "schedule": schedule}
    state = _resume(folder / CHECKPOINT, own, accelerator.num_processes)
    first = accelerator.is_main_process
    with Tracker(
        folder,
        state.epoch,
        epochs=settings.epochs,
        steps=settings.steps_per_epoch,
        first=first,
        tensorboard=settings.tensorboard,
    ) as tracker:
        while not state.finished(settings):
            epoch, started = state.epoch + 1, time.perf_counter()
            with tracker.epoch(epoch) as advance:
                losses = _train_epoch(
                    model, objective, optimizer, schedule, settings, data, accelerator, epoch, advance
                )
            _check_equal(objective, accelerator, f"epoch {epoch}")
            validation, scores = evaluate(objective, data, "validation", accelerator, settings.seed)
            _check_finite(validation, f"validation after epoch {epoch}")
            seconds = time.perf_counter() - started
            best = settings.keep == "last" or validation["loss"] < state.best_loss
            state = State(
                epoch,
                epoch if best else state.best_epoch,
                validation["loss"] if best else state.best_loss,
                state.seconds + seconds,
                accelerator.num_processes,
            )
            step = epoch * settings.steps_per_epoch
            rate = learning_rate(settings.optimizer, step - 1, settings.steps)
            tracker.write(
                {
                    "epoch": epoch, "step": step, "seconds": round(seconds, 3), "learning_rate": rate,
                    "train": losses, "validation": validation, "scores": scores,
                }
            )  # fmt: skip
            if first and best:
                _save(folder / BEST, {"objective": objective.state_dict(), "epoch": epoch})
            if first and (epoch % settings.checkpoint_epochs == 0 or state.finished(settings)):
                _save(folder / CHECKPOINT, {"state": asdict(state), **{k: one.state_dict() for k, one in own.items()}})
    print(f"rank {accelerator.process_index}: weights {weights_hash(objective)} after {state.epoch} epochs", flush=True)
    accelerator.wait_for_everyone()
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # from here on without autocast
    objective.load_state_dict(_load(folder / BEST)["objective"])
    runs = data.some_runs("train", CALIBRATION_RUNS)
    objective.calibrate(examples(objective, runs, accelerator.device, settings.seed))
    _check_equal(objective, accelerator, "calibration")
    return state


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    Args:
        settings: schedule and rates.
        step: 0 for the first; the last one, steps - 1, has the final rate.
        steps: of the whole training.
    """
    high, low, warmup = settings.learning_rate, settings.final_learning_rate, settings.warmup_steps
    if step < warmup:
        return high * (step + 1) / (warmup + 1)
    place = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
    if settings.schedule == "cosine":
        return low + (high - low) * (1 + math.cos(math.pi * place)) / 2
    if settings.schedule == "exponential":
        return float(high * (low / high) ** place)
    return high


def evaluate(
    objective: Objective, data: TrainingData, split: str, accelerator: Accelerator, seed: int
) -> tuple[Scores, Scores]:
    """Return mean losses, each frame counting the same, and scores of a split, over all ranks.

    Raises: AtracError, OSError: as reading the data does.
    """
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    totals: dict[str, float] = defaultdict(float)
    for frames, example in _examples(objective, data.runs(split), accelerator.device, seed):
        with torch.no_grad():
            totals["frames"] += frames
            for name, loss in objective(example).items():
                totals[f"loss {name}"] += frames * loss.item()
            for name, value in objective.measure(example).items():
                sums[name] = sums[name] + value.detach().cpu()
    everywhere = gather_object([(dict(totals), dict(sums))])
    totals, sums = (_added(one[part] for one in everywhere) for part in (0, 1))
    losses = {k.removeprefix("loss "): v / totals["frames"] for k, v in totals.items() if k != "frames"}
    return losses, objective.scores(sums)


def examples(objective: Objective, runs: Iterable[tuple[int, Batch]], device: torch.device, seed: int) -> list[Tensors]:
    """Return what an evaluation makes of some runs."""
    return [example for _, example in _examples(objective, runs, device, seed)]


def weights_hash(module: nn.Module) -> str:
    """Return eight hexadecimal digits that stand for a module's parameters."""
    digest = hashlib.sha256()
    for name, value in module.named_parameters():
        digest.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]


def _train_epoch(
    model: nn.Module,
    objective: Objective,
    optimizer: Any,
    schedule: Any,
    settings: TrainingSettings,
    data: TrainingData,
    accelerator: Accelerator,
    epoch: int,
    advance: Any,
) -> Scores:
    """Take the steps of an epoch; return mean losses over steps and ranks."""
    seed = derived_seed(settings.seed, "epoch", epoch, accelerator.process_index)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model.train()
    totals: dict[str, Tensor] = {}
    step = (epoch - 1) * settings.steps_per_epoch
    for batch in data.training_batches(epoch, settings.steps_per_epoch):
        with torch.no_grad():
            example = objective.example(_to(batch, accelerator.device), generator)
        losses = model(example)
        step += 1
        _check_finite(losses, f"step {step}")
        optimizer.zero_grad()
        accelerator.backward(losses["loss"])
        if settings.optimizer.clip_norm > 0:
            accelerator.clip_grad_norm_(model.parameters(), settings.optimizer.clip_norm)
        optimizer.step()
        schedule.step()
        for name, loss in losses.items():
            totals[name] = totals.get(name, 0.0) + loss.detach().double()
        advance()
    reduced = accelerator.reduce(torch.stack(list(totals.values())), "mean") / settings.steps_per_epoch
    return dict(zip(totals, reduced.tolist(), strict=True))


def _examples(
    objective: Objective, runs: Iterable[tuple[int, Batch]], device: torch.device, seed: int
) -> Iterator[tuple[int, Tensors]]:
    """Yield number of frames and example of each run, on any number of ranks the same."""
    objective.eval()
    for number, run in runs:
        generator = torch.Generator().manual_seed(derived_seed(seed, "evaluation", number))
        with torch.no_grad():
            example = objective.example(_to(run, device), generator)
        channels, frames = next(iter(run.values())).shape[:2]
        yield channels * frames, example


def _to(batch: Batch, device: torch.device) -> Batch:
    return {name: field.to(device) for name, field in batch.items()}


def _added(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    added: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            added[name] = added[name] + value if name in added else value
    return added


def _check_finite(losses: Mapping[str, Any], where: str) -> None:
    for name, loss in losses.items():
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not math.isfinite(value):
            raise TrainingError(f"{where}: {name} = {value}, allowed finite numbers; the last checkpoint is as it was")


def _check_equal(objective: Objective, accelerator: Accelerator, where: str) -> None:
    hashes = gather_object([weights_hash(objective)])
    if len(set(hashes)) > 1:
        raise TrainingError(f"{where}: the ranks have weights {', '.join(hashes)}, allowed equal ones")


def _resume(path: Path, own: Mapping[str, Any], ranks: int) -> State:
    """Load a checkpoint, if there is one, into what it was made of."""
    if not path.exists():
        return State(ranks=ranks)
    checkpoint = _load(path)
    try:
        state = State(**checkpoint["state"])
        for name, one in own.items():
            one.load_state_dict(checkpoint[name])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path}: of another model: {error}") from error
    if state.ranks != ranks:
        raise TrainingError(f"{path}: of a training on {state.ranks} ranks, now there are {ranks}")
    return state


def _save(path: Path, content: dict[str, Any]) -> None:
    """Write a file that appears under its name when it is complete."""
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged file makes of torch.load
        raise TrainingError(f"{path}: not readable as a checkpoint: {error}") from error
    return content
