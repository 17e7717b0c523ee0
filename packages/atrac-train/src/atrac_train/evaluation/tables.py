"""The tables of an evaluation, for the terminal and for the report."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from rich import table
from rich.console import Console
from rich.text import Text

from atrac_train.evaluation.kinds import ALL
from atrac_train.evaluation.results import Evaluation, Item, Pair
from atrac_train.evaluation.statistics import Summary

NOTE: Final = (
    "Means over recordings with 95 % intervals, bootstrapped by recording; below, the difference to the first column, "
    "likewise, and the number of recordings in which it is better. Only recordings count that all columns have the "
    "score for. The best is bold."
)
_BITS: Final = (
    "encoder", "sound units", "over budget", "bits used", "of", "BFUs", "short blocks low, %", "mid, %", "high, %",
)  # fmt: skip


class Cell(NamedTuple):
    """A cell of a table.

    Args:
        text: its first line.
        details: further lines.
        best: whether its number is the best one.
        title: shown by a browser that points at the cell.
    """

    text: str
    details: tuple[str, ...] = ()
    best: bool = False
    title: str = ""


class Table(NamedTuple):
    """A table; each row begins with its name."""

    caption: str
    head: list[str]
    rows: list[list[Cell]]


def means(evaluation: Evaluation) -> Table:
    """Return mean, interval and difference to the first pair, a row for each score and a column for each pair."""
    rows = []
    for score, better in evaluation.scores.items():
        if found := evaluation.of(ALL, score):
            numbers = ranked({pair: one.value.mean for pair, one in found.items()}, better)
            cells = {pair: numbers[pair]._replace(details=tuple(_details(one))) for pair, one in found.items()}
            name = Cell(score, (counted(next(iter(found.values())).recordings),))
            rows.append([name, *(cells.get(pair, Cell("")) for pair in evaluation.labels)])
    return Table(NOTE, ["score", *evaluation.labels.values()], rows)


def means_by_kind(evaluation: Evaluation) -> Table:
    """Return the means over the recordings of each kind, a row for each pair; no rows if there are no kinds."""
    scores = {name: better for name, better in evaluation.scores.items() if evaluation.of(ALL, name)}
    rows = []
    for kind in evaluation.kinds[1:]:
        count = sum(item.kind == kind for item in evaluation.recordings)
        columns = [
            ranked({pair: one.value.mean for pair, one in evaluation.of(kind, score).items()}, better)
            for score, better in scores.items()
        ]
        heads = [Cell(f"{kind} ({count})"), *[Cell("")] * len(evaluation.labels)]
        for head, (pair, label) in zip(heads, evaluation.labels.items()):
            rows.append([head, Cell(label), *(column.get(pair, Cell("")) for column in columns)])
    return Table("Means by kind of content.", ["kind", "", *scores], rows)


def scores_of(evaluation: Evaluation, item: Item) -> Table:
    """Return the scores of a recording, a row for each pair; the title of a missing score is its reason."""
    own = [row for row in evaluation.rows if row.recording == item.path]
    pairs = {(row.encoder, row.decoder): row for row in own}
    columns = {
        score: ranked({pair: row.scores.get(score) for pair, row in pairs.items()}, better)
        for score, better in evaluation.scores.items()
        if any(score in row.scores for row in own)
    }
    rows = []
    for pair, row in pairs.items():
        name = Cell(evaluation.labels[pair], (row.error,) if row.error else ())
        missing = {score: Cell("–", title=row.missing.get(score, "")) for score in columns}
        rows.append([name, *(column.get(pair, missing[score]) for score, column in columns.items())])
    return Table("", ["", *columns], rows)


def bits(evaluation: Evaluation) -> Table:
    """Return how the encoders spend their bits."""
    rows = []
    for encoder, one in evaluation.bits.items():
        counts = [f"{one[name]:,}" for name in ("units", "over_budget")]
        numbers = [f"{one[name]:.1f}" for name in ("used", "budget", "n_bfu")]
        rows.append([*map(Cell, [encoder, *counts, *numbers, *(f"{100 * share:.2f}" for share in one["short_share"])])])
    return Table("Bits of the values in a sound unit; means over sound units.", [*_BITS], rows)


def show(evaluation: Evaluation) -> None:
    """Print means, differences to the first pair, means by kind and bits; print on standard error what is missing."""
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=160)
    for one in (means(evaluation), means_by_kind(evaluation), bits(evaluation)):
        if one.rows:
            lined = any(cell.details for row in one.rows for cell in row)
            printed = table.Table(*one.head, caption=one.caption, caption_justify="left", show_lines=lined)
            for row in one.rows:
                lines = ("\n".join((cell.text, *cell.details)) for cell in row)
                printed.add_row(*(Text(text, "bold" if cell.best else "") for text, cell in zip(lines, row)))
            console.print(printed)
    for line in problems(evaluation):
        print(line, file=sys.stderr)


def ranked(values: Mapping[Pair, float | None], better: str) -> dict[Pair, Cell]:
    """Return the known numbers; the best are marked unless all are equal."""
    known = {pair: round(value, 3) for pair, value in values.items() if value is not None}
    best = (max if better == "more" else min)(known.values(), default=0.0)
    differ = len(set(known.values())) > 1
    return {pair: Cell(f"{value:.3f}", best=differ and value == best) for pair, value in known.items()}


def _details(one: Summary) -> Iterator[str]:
    """Yield the interval of a score, and how it compares with the first pair."""
    yield f"[{one.value.low:.3f}, {one.value.high:.3f}]"
    if one.difference:
        yield f"{one.difference.mean:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}]"
        yield f"{len(one.better)} better" + (f", {len(one.equal)} equal" if one.equal else "")


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
