"""Measure what fine-tuning end to end keeps in memory for its backward pass, by items of a batch; run by hand.

    python tests/measure_training_memory.py [key=value …]

Settings as apps/finetune_e2e.py takes them. Counts the bytes of all tensors that autograd keeps, each storage once:
what a GPU has to hold at the end of the forward pass beside weights and work space. Prints a line for each batch size,
and the largest batch for 24 GiB, of which 4 GiB are left to CUDA, work space and fragments.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from atrac_train.launch import CONFIGS
from atrac_train.objectives.codec import CodecObjective
from atrac_train.settings import read_settings

GIB = 2**30
BATCHES = (1, 2, 4, 8, 16)
USABLE = 20 * GIB


def kept(objective: CodecObjective, items: int) -> int:
    """Return the bytes that autograd keeps for a batch of noise, weights not counted."""
    own = {weight.untyped_storage().data_ptr() for weight in (*objective.parameters(), *objective.buffers())}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    generator = torch.Generator().manual_seed(0)
    pcm = 0.1 * torch.randn(items, objective.frames, 512, generator=generator)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = objective(objective.example({"pcm": pcm}, generator))["loss"]
        total = sum(found.values())
        loss.backward()
    return total


def main() -> None:
    """Print the table."""
    settings = read_settings([CONFIGS / "finetune_e2e.yaml"], sys.argv[1:])
    objective = CodecObjective(settings.model, **settings.objective).train()
    sizes = {items: kept(objective, items) for items in BATCHES}
    for items, size in sizes.items():
        print(f"{items:4} items of {objective.frames} frames: {size / 2**20:8.1f} MiB")
    each = (sizes[BATCHES[-1]] - sizes[BATCHES[-2]]) / (BATCHES[-1] - BATCHES[-2])
    print(f"{each / 2**20:.1f} MiB an item, {int(USABLE / each)} items in 20 GiB")


if __name__ == "__main__":
    main()
