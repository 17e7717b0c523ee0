"""How far a training is, and the checkpoint from which it goes on after an interruption."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from atrac_bitstream import AtracError, write_whole
from atrac_train.settings import TrainingSettings

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


def save_state(folder: Path, state: State, parts: Mapping[str, Any]) -> None:
    """Write the checkpoint: the state and the `state_dict` of each part. Raises: OSError."""
    save(folder / CHECKPOINT, {"state": asdict(state), **{name: part.state_dict() for name, part in parts.items()}})


def load_state(folder: Path, parts: Mapping[str, Any], ranks: int) -> State:
    """Load the checkpoint, if there is one, into the parts. Raises: TrainingError, OSError."""
    path = folder / CHECKPOINT
    if not path.exists():
        return State(ranks=ranks)
    checkpoint = load(path)
    try:
        state = State(**checkpoint["state"])
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path}: of another model: {error}") from error
    if state.ranks != ranks:
        raise TrainingError(f"{path}: of a training on {state.ranks} ranks, now there are {ranks}")
    return state


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all. Raises: OSError."""
    file = io.BytesIO()
    torch.save(content, file)
    write_whole(path, file.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote; no stored code runs. Raises: TrainingError: the file is damaged; OSError."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged file makes of torch.load
        raise TrainingError(f"{path}: not readable as a checkpoint: {error}") from error
    return content
