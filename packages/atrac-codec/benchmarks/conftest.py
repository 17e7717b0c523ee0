"""Pairs: each thing timed in turn with FFmpeg decoding the same file, so that what disturbs one disturbs the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

from atrac_codec.outside import ffmpeg_decode

PAIRS = 9
_ratios: dict[str, list[float]] = {}


@pytest.fixture
def against_ffmpeg(benchmark, request, aea: bytes) -> Callable[[Callable[[], object]], None]:
    """Time something in pairs with FFmpeg (PyAV, one thread) decoding `aea` and reading the samples out."""

    def measure(ours: Callable[[], object]) -> None:
        peer: list[float] = []

        def time_the_peer() -> None:
            start = time.perf_counter()
            ffmpeg_decode(aea)
            peer.append(time.perf_counter() - start)

        ours()
        ffmpeg_decode(aea)
        benchmark.pedantic(ours, setup=time_the_peer, rounds=PAIRS)
        pairs = zip(peer, benchmark.stats.stats.data, strict=True)
        ratios = _ratios[request.node.name] = [theirs / own for theirs, own in pairs]
        benchmark.extra_info["speed of FFmpeg's decoder = 1"] = statistics.median(ratios)

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the ratios."""
    if _ratios:
        terminalreporter.section(
            f"speed, FFmpeg's decoder = 1 (median of {PAIRS} interleaved pairs, lowest .. highest)"
        )
    for name, ratios in _ratios.items():
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        terminalreporter.line(f"{name:32} {median:6.2f}  ({low:.2f} .. {high:.2f})")
