"""What an evaluation prints."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.table import Column, Table

from atrac_train.evaluation.results import ALL, Evaluation, Summary


def show(evaluation: Evaluation) -> None:
    """Print means, differences to the first pair and wins over it; means by kind; bits; what is missing."""
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=160)
    pairs = evaluation.pairs
    table = Table("score", *evaluation.labels.values(), show_lines=True)
    for name in evaluation.scores:
        if found := evaluation.of(ALL, name):
            table.add_row(
                f"{name}\n{counted(next(iter(found.values())).recordings)}", *(cell(found.get(pair)) for pair in pairs)
            )
    console.print(table)
    print(
        f"means over the recordings that all pairs have a score for, {len(evaluation.recordings)} at most, with 95 % "
        "intervals by recording;\nbelow, the difference to the first pair, and in how many recordings it is better"
    )
    table = Table("kind", Column(overflow="fold"), *evaluation.scores)
    for kind in evaluation.kinds[1:]:
        count = sum(item.kind == kind for item in evaluation.recordings)
        for pair in pairs:
            own = [evaluation.of(kind, name).get(pair) for name in evaluation.scores]
            means = [f"{one.value.mean:.2f}" if one else "" for one in own]
            table.add_row(
                f"{kind} ({count})" if pair == pairs[0] else "",
                evaluation.labels[pair],
                *means,
                end_section=pair == pairs[-1],
            )
    console.print(table)
    guessed = sum(item.kind_from == "guess" for item in evaluation.recordings)
    print(f"means by kind of content; {guessed} of {len(evaluation.recordings)} kinds are guessed")
    table = Table("encoder", "units", "over budget", "bits used", "of", "BFUs", "short low, %", "mid, %", "high, %")
    for encoder, bits in evaluation.bits.items():
        means = [f"{value:.1f}" for value in (bits.used, bits.budget, bits.n_bfu)]
        shares = [f"{100 * share:.2f}" for share in bits.short_share]
        table.add_row(encoder, f"{bits.units:,}", f"{bits.over_budget:,}", *means, *shares)
    console.print(table)
    for line in wrong(evaluation):
        print(line, file=sys.stderr)


def cell(one: Summary | None) -> str:
    """Return a score in words."""
    if one is None:
        return ""
    text = f"{one.value.mean:.3f}\n[{one.value.low:.3f}, {one.value.high:.3f}]"
    if one.difference:
        text += f"\n{one.difference.mean:+.3f}\n[{one.difference.low:+.3f}, {one.difference.high:+.3f}]"
        text += f"\n{len(one.better)} better" + (f", {len(one.equal)} equal" if one.equal else "")
    return text


def counted(recordings: int) -> str:
    """Return how many recordings in words."""
    return f"{recordings} recording" + "s" * (recordings != 1)


def wrong(evaluation: Evaluation) -> Iterator[str]:
    """Yield what could not be coded, and how often a score could not be had."""
    missing: dict[tuple[str, str], Counter[str]] = {}
    for row in evaluation.rows:
        if row.error:
            yield f"{row.recording}, {row.encoder} to {row.decoder}: {row.error}"
        for score, reason in row.missing.items():
            missing.setdefault((score, evaluation.labels[row.encoder, row.decoder]), Counter())[reason] += 1
    for (score, pair), reasons in missing.items():
        (reason, _), *_ = reasons.most_common(1)
        yield f"{score}: {pair} has none in {counted(reasons.total())} ({reason})"
