"""What tests of the training apps share; each of their files names its app, `APP`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The app's module, on the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that it adds up in the same order as processes of their own do
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "1")
        yield importlib.import_module(request.module.APP)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def main(app: ModuleType) -> Callable[..., int]:
    """The app, called anew each time."""
    from accelerate.state import AcceleratorState, GradientState

    def main(*argv: str) -> int:
        try:
            code: int = app.main(argv)
            return code
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()

    return main
