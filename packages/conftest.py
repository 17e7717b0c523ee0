"""What the benchmarks share: pairs, each thing timed in turn with a peer, so that what disturbs one disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

PAIRS = 9
_ratios: dict[str, list[float]] = {}


@pytest.fixture
def in_pairs(benchmark: Any, request: pytest.FixtureRequest) -> Callable[[Callable[[], Any], Callable[[], Any]], None]:
    """Time something in pairs with a peer."""

    def measure(ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
        peer: list[float] = []

        def time_the_peer() -> None:
            start = time.perf_counter()
            theirs()
            peer.append(time.perf_counter() - start)

        ours()
        theirs()
        benchmark.pedantic(ours, setup=time_the_peer, rounds=PAIRS)
        pairs = zip(peer, benchmark.stats.stats.data, strict=True)
        ratios = _ratios[request.node.name] = [other / own for other, own in pairs]
        benchmark.extra_info["speed of the peer = 1"] = statistics.median(ratios)

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the ratios."""
    if _ratios:
        terminalreporter.section(f"speed, the peer = 1 (median of {PAIRS} interleaved pairs, lowest .. highest)")
    for name, ratios in _ratios.items():
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        terminalreporter.line(f"{name:48} {median:6.3f}  ({low:.3f} .. {high:.3f})")
