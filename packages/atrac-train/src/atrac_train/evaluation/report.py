"""An evaluation as one HTML file that needs nothing else: numbers, pictures, and sounds to compare, also blind.

`report.html` is the page, with a comment in the place of each part.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Final

from atrac_bitstream import write_whole
from atrac_train.evaluation.media import Media
from atrac_train.evaluation.results import ALL, Evaluation, Item, Row
from atrac_train.evaluation.tables import BITS_HEAD, bits_cells, counted, lines

_PAGE: Final = Path(__file__).with_name("report.html")
_NOTE: Final = (
    "Means over recordings with 95 % intervals, bootstrapped by recording; below, the difference to the first column, "
    "likewise, and the number of recordings in which it is better. Only recordings count that all columns have the "
    "score for. The best is bold."
)
_Pair = tuple[str, str]


def write_report(evaluation: Evaluation, media: Sequence[Media], bits: bytes, path: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        evaluation: the numbers.
        media: sounds and pictures of some recordings.
        bits: PNG file of the bits of all encoders; empty for none.
        path: the HTML file.

    Raises: OSError
    """
    parts = {
        "title": escape(f"{counted(len(evaluation.recordings))} by {', '.join(evaluation.labels.values())}"),
        "body": "\n".join(_body(evaluation, {one.recording: one for one in media}, bits)),
        "audio": "\n".join(map(_audio, media)),
    }
    page = re.sub(r"<!--(\w+)-->", lambda place: parts[place[1]], _PAGE.read_text(encoding="utf-8"))
    write_whole(path, page.encode())


def _body(evaluation: Evaluation, media: Mapping[str, Media], bits: bytes) -> Iterator[str]:
    yield "<h2>All recordings</h2>"
    yield _table(["score", *evaluation.labels.values()], _means(evaluation), _NOTE)
    yield from _worse(evaluation)
    for kind in evaluation.kinds[1:]:
        count = sum(item.kind == kind for item in evaluation.recordings)
        columns = {
            score: _best({pair: one.value.mean for pair, one in found.items()}, evaluation.scores[score])
            for score in evaluation.scores
            if (found := evaluation.of(kind, score))
        }
        rows = [
            [escape(name), *(column.get(pair, "") for column in columns.values())]
            for pair, name in evaluation.labels.items()
        ]
        yield _table(["", *columns], rows, f"{escape(kind)}: {counted(count)}")
    yield "<h2>Bits</h2>"
    spent = [[escape(encoder), *bits_cells(one)] for encoder, one in evaluation.bits.items()]
    yield _table(BITS_HEAD, spent, "Bits of the values in a sound unit; means over sound units.")
    if bits:
        yield _image(bits, "bits per value by BFU")
    yield "<h2>Recordings</h2><nav>"
    for item in evaluation.recordings:
        yield f'<a href="#{escape(item.path)}">{escape(item.path)}</a><br>'
    yield "</nav>"
    for item in evaluation.recordings:
        yield from _recording(item, evaluation, media.get(item.path))
    settings = json.dumps(asdict(evaluation.settings), indent=1, ensure_ascii=False)
    yield f"<h2>Settings</h2><pre>{escape(settings)}</pre>"


def _means(evaluation: Evaluation) -> Iterator[list[str]]:
    """Yield the row of each score: mean, interval and difference of each pair."""
    for score, better in evaluation.scores.items():
        if found := evaluation.of(ALL, score):
            best = _best({pair: one.value.mean for pair, one in found.items()}, better)
            cells = []
            for pair in evaluation.pairs:
                details = list(lines(found.get(pair)))[1:]
                cells.append(best.get(pair, "") + "".join(f"<small>{line}</small>" for line in details))
            yield [f"{escape(score)}<small>{counted(next(iter(found.values())).recordings)}</small>", *cells]


def _worse(evaluation: Evaluation) -> Iterator[str]:
    """List the recordings in which each pair is worse than the first one."""
    first, *others = evaluation.labels.items()
    for pair, name in others:
        yield f"<details><summary>Where {escape(name)} is worse than {escape(first[1])}</summary><ul>"
        for score in evaluation.scores:
            one = evaluation.of(ALL, score).get(pair)
            if one and one.difference:
                worse = escape(", ".join(one.worse)) or "–"
                yield f"<li>{escape(score)}, {len(one.worse)} of {one.recordings}: {worse}"
        yield "</ul></details>"


def _recording(item: Item, evaluation: Evaluation, media: Media | None) -> Iterator[str]:
    rows = {(row.encoder, row.decoder): row for row in evaluation.rows if row.recording == item.path}
    channels = {1: "mono", 2: "stereo"}.get(item.channels, f"{item.channels} channels")
    yield f'<h2 id="{escape(item.path)}">{escape(item.path)}</h2>'
    listen = f' <button data-open="{escape(_audio_id(media))}">listen</button>' if media else ""
    yield f"<p>{escape(item.kind)}, {item.seconds:.1f} s, {channels}{listen}</p>"
    columns = {
        score: _best({pair: row.scores.get(score) for pair, row in rows.items()}, better)
        for score, better in evaluation.scores.items()
        if any(score in row.scores for row in rows.values())
    }
    cells = [[escape(evaluation.labels[pair]), *_scores(row, columns, pair)] for pair, row in rows.items()]
    yield _table(["", *columns], cells)
    if media and media.picture:
        yield _image(media.picture, f"spectrograms, noise and bits of {item.path}")


def _scores(row: Row, columns: Mapping[str, Mapping[_Pair, str]], pair: _Pair) -> list[str]:
    """Return a row of scores; a missing score has its reason as title, an error stands in the first place."""
    if row.error:
        return [f'<span class="error">{escape(row.error)}</span>', *[""] * (len(columns) - 1)]
    return [
        column.get(pair) or f'<span title="{escape(row.missing.get(score, ""))}">–</span>'
        for score, column in columns.items()
    ]


def _best(values: Mapping[_Pair, float | None], better: str) -> dict[_Pair, str]:
    """Return the known numbers as text, the best of them bold unless all are equal."""
    known = {pair: round(value, 3) for pair, value in values.items() if value is not None}
    best = (max if better == "more" else min)(known.values(), default=0.0)
    bold = len(set(known.values())) > 1
    return {pair: f"<b>{value:.3f}</b>" if bold and value == best else f"{value:.3f}" for pair, value in known.items()}


def _table(head: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]], caption: str = "") -> str:
    """Return a table; cells and caption are HTML, the head is text."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    words = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="scroll"><table>{words}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _image(png: bytes, words: str) -> str:
    return f'<img alt="{escape(words)}" loading="lazy" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _audio_id(media: Media) -> str:
    return f"audio {media.recording}"


def _audio(media: Media) -> str:
    """Return the sounds of a recording as a list of pairs, name and base64, in a script that the browser never runs."""
    sounds = [(name, base64.b64encode(sound).decode()) for name, sound in media.sounds.items()]
    text = json.dumps(sounds).replace("<", "\\u003c")
    name = escape(media.recording)
    return f'<script type="application/json" id="{escape(_audio_id(media))}" data-recording="{name}">{text}</script>'
