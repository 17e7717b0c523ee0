"""Time ten seconds of each sound: pytest benchmarks/bench_corpus.py."""

from typing import Any

import pytest

from atrac_data import NAMES, render


@pytest.mark.parametrize("name", NAMES)
def test_ten_seconds(benchmark: Any, name: str) -> None:
    benchmark(lambda: render(name, seconds=10.0))
