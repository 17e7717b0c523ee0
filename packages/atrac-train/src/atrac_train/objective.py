"""Objectives: what is trained, on which fields of ground truth, towards what, and how good it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from atrac_codec import DECODERS, ENCODERS, Trained, load_stage, save_stage
from atrac_codec.checkpoint import describe

Tensors = Mapping[str, Tensor]
Scores = dict[str, float]
"""What a model reached, by name; the name says the unit."""


class Objective(nn.Module, ABC):
    """A model with what it is trained for. Its parameters are those of the model.

    The loop asks `example` for what the teacher answers, `forward` for losses, and sums what `measure` returns over
    batches and ranks before it asks `scores`.
    """

    fields: tuple[str, ...]
    """What is read from shards."""
    frames: int
    """Successive frames of one channel in an item of the training data."""
    stage: Any
    """What is trained, if that is one stage."""

    @classmethod
    def saved(cls, weights: str, role: str, settings: Mapping[str, Any]) -> Self:
        """Build the objective of a saved stage.

        Args:
            weights: checkpoint, or the name of a preset or decoder whose stage is learned.
            role: of the stage.
            settings: keyword arguments of the objective.

        Raises: ValueError: that stage of the preset is not learned; AtracError, OSError: it cannot be read.
        """
        path = Path(weights)
        if stages := {**ENCODERS.get(weights, {}), **DECODERS.get(weights, {})}:
            if not isinstance(stage := stages.get(role), Trained):
                raise ValueError(f"preset {weights}: its {role} is not learned")
            path = stage.path
        found = load_stage(path, role)
        objective = cls(describe(path)["settings"], **settings)
        objective.stage.load_state_dict(found.state_dict())
        return objective

    @abstractmethod
    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Turn ground truth into inputs and the teacher's answers.

        Args:
            batch: the fields, each [B, F, *shape], on any device.
            generator: what is drawn at random comes from it, on the CPU. What is drawn may differ between training
                and evaluation, see `self.training`.
        """

    @abstractmethod
    def forward(self, example: Tensors) -> dict[str, Tensor]:
        """Return losses by name, scalars; `loss` is the one that is made smaller."""

    @abstractmethod
    def measure(self, example: Tensors) -> dict[str, Tensor]:
        """Compare with the teacher; return float64 numbers or counts that may be added up over examples."""

    @abstractmethod
    def scores(self, sums: Tensors) -> Scores:
        """Turn the sums of all that `measure` returned into what is reported."""

    def origin(self) -> Objective | None:
        """Return what training started from, if that was trained already and so is worth measuring too."""
        return None

    def calibrate(self, examples: Sequence[Tensors]) -> None:
        """Fit the parameters that have no gradient, once, after training.

        Args:
            examples: of runs spread over the train split, as evaluation makes them.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what the optimizer moves; a group's `rate` is its share of the learning rate."""
        return [{"params": list(self.parameters()), "rate": 1.0}]

    def save(self, folder: Path, role: str, about: Mapping[str, Any]) -> Path:
        """Save the weights, with what is known about them. Raises: ValueError, OSError."""
        return save_stage(self.stage, folder, role, about)
