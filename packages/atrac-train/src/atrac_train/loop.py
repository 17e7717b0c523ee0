"""The loop that all trainings share: epochs of fixed length, evaluation, checkpoints, going on after a kill.

Everything random is fixed by seed, epoch and rank, so a training that was killed and goes on from its checkpoint gives
the curve that it would have given.
"""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from atrac_bitstream import AtracError, write_whole
from atrac_train.data import TrainingData
from atrac_train.objective import Objective, Scores
from atrac_train.settings import OptimizerSettings, TrainingSettings
from atrac_train.tracking import Tracker

CHECKPOINT: Final = "checkpoint.pt"
"""File of everything that training goes on from."""
BEST: Final = "best.pt"
"""File of the weights that are kept."""


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
        """Return whether nothing is left to do."""
        waited = self.epoch - self.best_epoch
        return self.epoch >= settings.epochs or (settings.patience > 0 and waited >= settings.patience)

    def after(self, loss: float, seconds: float, keep: str) -> State:
        """Return the state after one more epoch with this validation loss."""
        epoch = self.epoch + 1
        better = keep == "last" or loss < self.best_loss
        best = (epoch, loss) if better else (self.best_epoch, self.best_loss)
        return State(epoch, *best, self.seconds + seconds, self.ranks)


def train(data: TrainingData, settings: TrainingSettings, accelerator: Accelerator) -> dict[str, Any]:
    """Train until the epochs are over or the validation loss has not fallen for long, or go on with it.

    Args:
        data: what is read, and the objective; afterwards it holds the weights of the best epoch.
        settings: those of the training; checkpoint, best weights and log lie in its folder.
        accelerator: made with `step_scheduler_with_optimizer=False`, so that a step of the schedule is a step of the
            optimizer on any number of ranks.

    Returns:
        Number of epochs, the best one, their seconds, and the number of ranks.

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
    objective.load_state_dict(_load(settings.folder / BEST)["objective"])
    data.calibrate()
    about = {"epochs": state.epoch, "best_epoch": state.best_epoch}
    return {**about, "seconds": round(state.seconds, 1), "ranks": state.ranks}


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
        state = _load_state(folder, parts, self.accelerator.num_processes)
        with Tracker(settings, state.epoch, first=first) as tracker:
            while not state.finished(settings):
                epoch, started = state.epoch + 1, time.perf_counter()
                with tracker.epoch(epoch) as advance:
                    losses = self._train_epoch(epoch, advance)
                _check_equal(self.objective, f"epoch {epoch}")
                validation, scores = self.data.evaluate("validation")
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
                    _save(folder / BEST, {"objective": self.objective.state_dict(), "epoch": epoch})
                if first and (epoch % settings.checkpoint_epochs == 0 or state.finished(settings)):
                    _save_state(folder, state, parts)
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


def weights_hash(module: nn.Module) -> str:
    """Return eight hexadecimal digits that stand for a module's parameters."""
    digest = hashlib.sha256()
    for name, value in module.named_parameters():
        digest.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]


def _check_finite(losses: Mapping[str, Any], where: str) -> None:
    for name, loss in losses.items():
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not math.isfinite(value):
            raise TrainingError(f"{where}: {name} = {value}, allowed finite numbers; the last checkpoint is as it was")


def _check_equal(objective: Objective, where: str) -> None:
    hashes = gather_object([weights_hash(objective)])
    if len(set(hashes)) > 1:
        raise TrainingError(f"{where}: the ranks have weights {', '.join(hashes)}, allowed equal ones")


def _save_state(folder: Path, state: State, parts: Mapping[str, Any]) -> None:
    """Write the checkpoint: the state and the `state_dict` of each part. Raises: OSError."""
    _save(folder / CHECKPOINT, {"state": asdict(state), **{name: part.state_dict() for name, part in parts.items()}})


def _load_state(folder: Path, parts: Mapping[str, Any], ranks: int) -> State:
    """Load the checkpoint, if there is one, into the parts. Raises: TrainingError, OSError."""
    path = folder / CHECKPOINT
    if not path.exists():
        return State(ranks=ranks)
    checkpoint = _load(path)
    try:
        state = State(**checkpoint["state"])
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path}: of another model: {error}") from error
    if state.ranks != ranks:
        raise TrainingError(f"{path}: of a training on {state.ranks} ranks, now there are {ranks}")
    return state


def _save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all. Raises: OSError."""
    file = io.BytesIO()
    torch.save(content, file)
    write_whole(path, file.getvalue())


def _load(path: Path) -> dict[str, Any]:
    """Read what `_save` wrote; no stored code runs. Raises: TrainingError: the file is damaged; OSError."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged file makes of torch.load
        raise TrainingError(f"{path}: not readable as a checkpoint: {error}") from error
    return content
