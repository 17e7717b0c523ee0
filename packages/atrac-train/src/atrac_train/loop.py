"""The loop that all trainings share: epochs of fixed length, evaluation, checkpoints, going on after a kill.

Everything random is fixed by seed, epoch and rank, so a training that was killed and goes on from its checkpoint gives
the curve that it would have given.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from atrac_train.data import TrainingData
from atrac_train.objective import Objective, Scores
from atrac_train.settings import OptimizerSettings, TrainingSettings
from atrac_train.state import BEST, State, TrainingError, load, load_state, save, save_state
from atrac_train.tracking import Tracker

CALIBRATION_RUNS: Final = 100
"""Runs of the train split that an objective is calibrated with after training."""


def train(data: TrainingData, settings: TrainingSettings, accelerator: Accelerator) -> State:
    """Train until the epochs are over or the validation loss has not fallen for long, or go on with it.

    Args:
        data: what is read, and the objective; afterwards it holds the weights of the best epoch.
        settings: those of the training; checkpoint, best weights and log lie in its folder.
        accelerator: made with `step_scheduler_with_optimizer=False`, so that a step of the schedule is a step of the
            optimizer on any number of ranks.

    Raises:
        TrainingError: a loss is not finite, the ranks' weights are not the same, or the checkpoint is not readable, of
            another model or of another number of ranks.
        AtracError, OSError: as reading the data and writing the folder do.
    """
    objective = data.objective
    trainer = _Trainer(data, settings, accelerator)
    state = trainer.run()
    print(f"rank {accelerator.process_index}: weights {weights_hash(objective)} after {state.epoch} epochs", flush=True)
    accelerator.wait_for_everyone()
    accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # from here on without autocast
    objective.load_state_dict(load(settings.folder / BEST)["objective"])
    objective.calibrate([example for _, example in data.examples("train", CALIBRATION_RUNS)])
    _check_equal(objective, "calibration")
    return state


class _Trainer:
    """Model, optimizer and schedule of a training, and its epochs."""

    def __init__(self, data: TrainingData, settings: TrainingSettings, accelerator: Accelerator) -> None:
        self.data, self.objective, self.settings, self.accelerator = data, data.objective, settings, accelerator
        own = settings.optimizer
        groups = [
            {"params": group["params"], "lr": own.learning_rate * group["rate"]}
            for group in self.objective.parameter_groups()
        ]
        optimizer = torch.optim.AdamW(groups, own.learning_rate, own.betas, weight_decay=own.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(own, step, settings.steps) / own.learning_rate
        )
        self.model, self.optimizer, self.schedule = accelerator.prepare(self.objective, optimizer, schedule)

    def run(self) -> State:
        """Run the epochs that are left."""
        settings, folder, first = self.settings, self.settings.folder, self.accelerator.is_main_process
        parts = {"objective": self.objective, "optimizer": self.optimizer, "schedule": self.schedule}
        state = load_state(folder, parts, self.accelerator.num_processes)
        with Tracker(settings, state.epoch, first=first) as tracker:
            while not state.finished(settings):
                epoch, started = state.epoch + 1, time.perf_counter()
                with tracker.epoch(epoch) as advance:
                    losses = self._train_epoch(epoch, advance)
                _check_equal(self.objective, f"epoch {epoch}")
                validation, scores = evaluate(self.data, "validation")
                _check_finite(validation, f"validation after epoch {epoch}")
                seconds = time.perf_counter() - started
                state = state.after(validation["loss"], seconds, settings.keep)
                step = epoch * settings.steps_per_epoch
                line = {
                    "epoch": epoch,
                    "step": step,
                    "seconds": round(seconds, 3),
                    "learning_rate": learning_rate(settings.optimizer, step - 1, settings.steps),
                }
                tracker.write({**line, "train": losses, "validation": validation, "scores": scores})
                if first and state.best_epoch == epoch:
                    save(folder / BEST, {"objective": self.objective.state_dict(), "epoch": epoch})
                if first and (epoch % settings.checkpoint_epochs == 0 or state.finished(settings)):
                    save_state(folder, state, parts)
        return state

    def _train_epoch(self, epoch: int, advance: Callable[[], None]) -> Scores:
        """Take the steps of an epoch; return mean losses over steps and ranks."""
        self.model.train()
        totals: dict[str, Tensor] = {}
        clip_norm, steps = self.settings.optimizer.clip_norm, self.settings.steps_per_epoch
        for step, example in enumerate(self.data.training_examples(epoch), (epoch - 1) * steps + 1):
            losses = self.model(example)
            _check_finite(losses, f"step {step}")
            self.optimizer.zero_grad()
            self.accelerator.backward(losses["loss"])
            if clip_norm > 0:
                self.accelerator.clip_grad_norm_(self.model.parameters(), clip_norm)
            self.optimizer.step()
            self.schedule.step()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.detach().double()
            advance()
        reduced = self.accelerator.reduce(torch.stack(list(totals.values())), "mean") / steps
        return dict(zip(totals, reduced.tolist(), strict=True))


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


@torch.no_grad()
def evaluate(data: TrainingData, split: str) -> tuple[Scores, Scores]:
    """Return mean losses of the objective, each frame counting the same, and its scores on a split, over all ranks.

    Raises: AtracError, OSError: as reading the data does.
    """
    objective = data.objective
    frames, losses, sums = 0, defaultdict[str, float](float), defaultdict[str, Any](float)
    for count, example in data.examples(split):
        frames += count
        for name, loss in objective(example).items():
            losses[name] += count * loss.item()
        for name, value in objective.measure(example).items():
            sums[name] = sums[name] + value.detach().cpu()
    ranks = gather_object([(frames, dict(losses), dict(sums))])
    total = sum(frames for frames, _, _ in ranks)
    means = {name: loss / total for name, loss in _added([losses for _, losses, _ in ranks]).items()}
    return means, objective.scores(_added([sums for _, _, sums in ranks]))


def weights_hash(module: nn.Module) -> str:
    """Return eight hexadecimal digits that stand for a module's parameters."""
    digest = hashlib.sha256()
    for name, value in module.named_parameters():
        digest.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]


def _added(parts: list[dict[str, Any]]) -> dict[str, Any]:
    added = defaultdict[str, Any](float)
    for part in parts:
        for name, value in part.items():
            added[name] = added[name] + value
    return dict(added)


def _check_finite(losses: Mapping[str, Any], where: str) -> None:
    for name, loss in losses.items():
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not math.isfinite(value):
            raise TrainingError(f"{where}: {name} = {value}, allowed finite numbers; the last checkpoint is as it was")


def _check_equal(objective: Objective, where: str) -> None:
    hashes = gather_object([weights_hash(objective)])
    if len(set(hashes)) > 1:
        raise TrainingError(f"{where}: the ranks have weights {', '.join(hashes)}, allowed equal ones")
