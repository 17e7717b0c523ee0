"""The tables that an evaluation prints."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table

from atrac_train.evaluation.results import ALL, Bits, Evaluation, Summary

BITS_HEAD: Final = (
    "encoder", "sound units", "over budget", "bits used", "of", "BFUs", "short blocks low, %", "mid, %", "high, %",
)  # fmt: skip
"""Columns of `bits_cells`."""


def show(evaluation: Evaluation) -> None:
    """Print means, differences to the first pair, means by kind and bits; print on standard error what is missing."""
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=160)
    pairs = evaluation.pairs
    table = Table("score", *evaluation.labels.values(), show_lines=True)
    for name in evaluation.scores:
        if found := evaluation.of(ALL, name):
            head = f"{name}\n{counted(next(iter(found.values())).recordings)}"
            table.add_row(head, *("\n".join(lines(found.get(pair))) for pair in pairs))
    console.print(table)
    print(
        f"means over the recordings that all pairs have a score for, {len(evaluation.recordings)} at most, with 95 % "
        "intervals by recording;\nbelow, the difference to the first pair, and in how many recordings it is better"
    )
    if kinds := evaluation.kinds[1:]:
        table = Table("kind", "", *evaluation.scores, title="means by kind of content")
        for kind in kinds:
            table.add_section()
            for pair in pairs:
                means = [evaluation.of(kind, name).get(pair) for name in evaluation.scores]
                cells = [f"{one.value.mean:.2f}" if one else "" for one in means]
                table.add_row(kind if pair == pairs[0] else "", evaluation.labels[pair], *cells)
        console.print(table)
    table = Table(*BITS_HEAD)
    for encoder, bits in evaluation.bits.items():
        table.add_row(encoder, *bits_cells(bits))
    console.print(table)
    for line in problems(evaluation):
        print(line, file=sys.stderr)


def lines(one: Summary | None) -> Iterator[str]:
    """Yield mean and interval of a score, and how it compares with the first pair."""
    if one is None:
        return
    yield from (f"{one.value.mean:.3f}", f"[{one.value.low:.3f}, {one.value.high:.3f}]")
    if one.difference:
        yield f"{one.difference.mean:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}]"
        yield f"{len(one.better)} better" + (f", {len(one.equal)} equal" if one.equal else "")


def bits_cells(bits: Bits) -> list[str]:
    """Return the cells of a row after the encoder's name, see `BITS_HEAD`."""
    means = [f"{value:.1f}" for value in (bits.used, bits.budget, bits.n_bfu)]
    return [f"{bits.units:,}", f"{bits.over_budget:,}", *means, *(f"{100 * share:.2f}" for share in bits.short_share)]


def counted(recordings: int) -> str:
    """Return a number of recordings in words."""
    return f"{recordings} recording" + "s" * (recordings != 1)


def problems(evaluation: Evaluation) -> Iterator[str]:
    """Yield the recordings that could not be coded, and how often a score is missing."""
    missing: dict[tuple[str, str], Counter[str]] = {}
    for row in evaluation.rows:
        if row.error:
            yield f"{row.recording}, {row.encoder} to {row.decoder}: {row.error}"
        for score, reason in row.missing.items():
            missing.setdefault((score, evaluation.labels[row.encoder, row.decoder]), Counter())[reason] += 1
    for (score, pair), reasons in missing.items():
        (reason, _), *_ = reasons.most_common(1)
        yield f"{score}: {pair} has none in {counted(reasons.total())} ({reason})"
