"""Common to all stages: the base class, the precision they run in, and the check of their inputs' shapes."""

from __future__ import annotations

import functools
from abc import ABC
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from atrac_bitstream.tables import FRAME_SAMPLES, N_BANDS, N_BFU_MAX

_Forward = TypeVar("_Forward", bound=Callable[..., Any])
_SIZES: Final = {
    "bands": FRAME_SAMPLES,
    "spectrum": FRAME_SAMPLES,
    "quantized": FRAME_SAMPLES,
    "idsf": N_BFU_MAX,
    "idwl": N_BFU_MAX,
    "bsm": N_BANDS,
}
"""Last dimension of each input of a stage."""


class ShapeError(ValueError):
    """A tensor has another shape than a stage works on.

    Args:
        name: of the argument.
        expected: the shape as the documentation writes it, `[*, F, 512]`.
        actual: the shape that arrived.
    """

    def __init__(self, name: str, expected: str, actual: torch.Size) -> None:
        super().__init__(f"{name} is {list(actual)}, expected {expected}")
        self.expected = expected
        self.actual = actual


class WithTables(nn.Module):
    """A module with constants."""

    def add_table(self, name: str, values: ArrayLike) -> None:
        """Register a constant, in torch's default dtype, that moves with `.to()` but is not saved."""
        table = torch.from_numpy(np.ascontiguousarray(values))
        if table.is_floating_point():
            table = table.to(torch.get_default_dtype())
        self.register_buffer(name, table, persistent=False)


class Stage(WithTables, ABC):
    """A stage of the codec: tensors in, tensors out, no state from one call to the next.

    Every role has an abstract class below this one that states shapes, units and rules, and every stage of that role
    keeps them. Channels are batch. Tables are buffers in torch's default dtype, cast once from float64.
    """


def full_precision(forward: _Forward) -> _Forward:
    """Run a forward in float32 or float64 also under autocast: bfloat16 turns 257 into 256.

    Half precision arguments are widened to float32.
    """

    @functools.wraps(forward)
    def wrapper(self: nn.Module, *args: Tensor) -> Any:
        widened = [a.float() if a is not None and a.dtype in (torch.float16, torch.bfloat16) else a for a in args]
        with torch.autocast(widened[0].device.type, enabled=False):
            return forward(self, *widened)

    return wrapper  # type: ignore[return-value]


def any_true(mask: Tensor) -> bool:
    """Return whether any element is true, and so whether rarely needed work has to be done.

    While `torch.compile` or `torch.export` captures a graph the answer is yes: the graph must not depend on values.
    """
    return torch.compiler.is_compiling() or bool(mask.any())


def check_shapes(**inputs: Tensor) -> None:
    """Raise `ShapeError` unless every input of a stage, given by its name, is [*, F, n] with the n of that name."""
    for name, tensor in inputs.items():
        if tensor.dim() < 2 or tensor.shape[-1] != _SIZES[name]:
            raise ShapeError(name, f"[*, F, {_SIZES[name]}]", tensor.shape)


def check_pcm(pcm: Tensor) -> None:
    """Raise `ShapeError` unless pcm is [*, 512 F] with at least one frame."""
    if pcm.dim() < 1 or pcm.shape[-1] == 0 or pcm.shape[-1] % FRAME_SAMPLES:
        raise ShapeError("pcm", "[*, T], T = 512 F", pcm.shape)
