"""Operations of this package: single nodes to `torch.compile` and `torch.export`, with loops and NumPy inside.

They are registered by `torch.library.Library`, because `torch.library.custom_op` imports the whole compiler at the
first call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_Function = TypeVar("_Function", bound=Callable[..., Any])
_NAMESPACE: Final = "atrac_modules"
_LIBRARY: Final = torch.library.Library(_NAMESPACE, "DEF")


def operation(shapes: Callable[..., Any], on_cpu: Callable[..., Any] | None = None) -> Callable[[_Function], _Function]:
    """Return a decorator that makes a function of tensors an operation without gradients.

    Args:
        shapes: returns empty tensors like the results, without looking at values.
        on_cpu: does the same on the CPU, faster.
    """

    def define(function: _Function) -> _Function:
        name = function.__name__
        _LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()))
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        if on_cpu:
            _LIBRARY.impl(name, on_cpu, "CPU")
        torch.library.register_fake(f"{_NAMESPACE}::{name}", shapes, lib=_LIBRARY)
        return cast("_Function", getattr(getattr(torch.ops, _NAMESPACE), name).default)

    return define


def float_rows(x: Tensor) -> NDArray[np.float32]:
    """Return a tensor on the CPU as an array of rows, for a kernel. Shape: [*, n] -> [N, n]."""
    rows: NDArray[np.float32] = x.reshape(-1, x.shape[-1]).contiguous().float().numpy()
    return rows


def integer_rows(x: Tensor) -> NDArray[np.int32]:
    """Return a tensor of whole numbers on the CPU as an array of rows, for a kernel. Shape: [*, n] -> [N, n]."""
    rows: NDArray[np.int32] = x.reshape(-1, x.shape[-1]).contiguous().int().numpy()
    return rows
