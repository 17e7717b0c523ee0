"""An evaluation as one HTML file that needs nothing else: numbers, pictures, and sounds to switch between, also blind.

`report.html` is the page, with a comment in the place of each part.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec.checkpoint import write_whole
from atrac_train.evaluation.results import ALL, Evaluation, Item, Row, Summary
from atrac_train.evaluation.tables import counted

ORIGINAL: Final = "original"
"""Name of what went in, among the versions of a recording."""
_PAGE: Final = Path(__file__).with_name("report.html")
_NOTE: Final = (
    "Means over recordings with 95 % intervals, bootstrapped by recording; below, the difference to the first column, "
    "likewise, and in how many recordings it is better. Only recordings count that all columns have the score for. "
    "NMR is what counts; <em>as trained</em> is what preset neural is trained on: wider bands, spread alike at any "
    "level. The best is bold."
)


@dataclass
class Media:
    """What a recording looks and sounds like, as far as a report has it.

    Args:
        recording: which.
        sounds: FLAC files by version, `ORIGINAL` first.
        picture: a PNG file.
    """

    recording: str
    sounds: dict[str, bytes] = field(default_factory=dict)
    picture: bytes = b""


def flac(sound: NDArray[np.float32]) -> bytes:
    """Return a FLAC file of 16 bits; what is above full scale is cut. Shape: [C, N]."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(sound, -1, 32767 / 32768).T, SAMPLE_RATE, "PCM_16", format="FLAC")
    return file.getvalue()


def write_report(evaluation: Evaluation, media: Sequence[Media], bits: bytes, path: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        evaluation: the numbers.
        media: of each recording that is to be seen and heard.
        bits: PNG file of what encoders do with their bits.
        path: the HTML file.

    Raises: OSError
    """
    parts = {
        "title": escape(f"{counted(len(evaluation.recordings))} by {', '.join(evaluation.labels.values())}"),
        "body": "\n".join(_body(evaluation, media, bits)),
        "audio": "\n".join(_audio(media)),
    }
    page = re.sub(r"<!--(\w+)-->", lambda place: parts[place[1]], _PAGE.read_text(encoding="utf-8"))
    write_whole(path, page.encode())


def _body(evaluation: Evaluation, media: Sequence[Media], bits: bytes) -> Iterator[str]:
    yield "<h2>All recordings</h2>"
    rows = [
        [
            f"{escape(score)}<small>{counted(next(iter(found.values())).recordings)}</small>",
            *_means(evaluation.pairs, found, better),
        ]
        for score, better in evaluation.scores.items()
        if (found := evaluation.of(ALL, score))
    ]
    yield _table(["score", *evaluation.labels.values()], rows, _NOTE)
    yield from _lost(evaluation)
    yield "<h2>By kind of content</h2>"
    yield from _kinds(evaluation)
    yield "<h2>Bits</h2>"
    yield _bits(evaluation)
    if bits:
        yield _image(bits, "bits per value by BFU")
    yield "<h2>Recordings</h2><nav>"
    for k, item in enumerate(evaluation.recordings):
        yield f'<a href="#recording{k}">{escape(item.path)}</a><br>'
    yield "</nav>"
    by_name = {one.recording: (k, one) for k, one in enumerate(media)}
    for k, item in enumerate(evaluation.recordings):
        yield from _recording(k, item, evaluation, by_name.get(item.path))
    settings = json.dumps(asdict(evaluation.settings), indent=1, ensure_ascii=False)
    yield f"<h2>Settings</h2><pre>{escape(settings)}</pre>"


def _kinds(evaluation: Evaluation) -> Iterator[str]:
    """Show means by kind, a table for each."""
    for kind in evaluation.kinds[1:]:
        columns = {
            score: _best({pair: one.value.mean for pair, one in found.items()}, better)
            for score, better in evaluation.scores.items()
            if (found := evaluation.of(kind, score))
        }
        rows = [
            [escape(name), *(column.get(pair, "") for column in columns.values())]
            for pair, name in evaluation.labels.items()
        ]
        own = [item for item in evaluation.recordings if item.kind == kind]
        guessed = sum(item.kind_from == "guess" for item in own)
        said = f", {guessed} by guess" if guessed else ""
        yield _table(["", *columns], rows, f"{escape(kind)}: {counted(len(own))}{said}")


def _bits(evaluation: Evaluation) -> str:
    """Show what encoders do with their bits."""
    head = (
        "encoder",
        "sound units",
        "over budget",
        "bits used",
        "of",
        "BFUs",
        "short blocks low, %",
        "mid, %",
        "high, %",
    )
    rows = [
        [
            escape(encoder),
            f"{one.units:,}",
            f"{one.over_budget:,}",
            *(f"{value:.1f}" for value in (one.used, one.budget, one.n_bfu)),
            *(f"{100 * share:.2f}" for share in one.short_share),
        ]
        for encoder, one in evaluation.bits.items()
    ]
    return _table(head, rows, "Bits are those of values in a sound unit; means over sound units.")


def _recording(number: int, item: Item, evaluation: Evaluation, shown: tuple[int, Media] | None) -> Iterator[str]:
    rows = {(row.encoder, row.decoder): row for row in evaluation.rows if row.recording == item.path}
    channels = {1: "mono", 2: "stereo"}.get(item.channels, f"{item.channels} channels")
    guessed = ", by guess" if item.kind_from == "guess" else ""
    yield f'<h2 id="recording{number}">{escape(item.path)}</h2>'
    yield f"<p>{escape(item.kind)}{guessed}, {item.seconds:.1f} s, {channels}"
    if shown and shown[1].sounds:
        yield f' <button data-open="audio{shown[0]}">listen</button>'
    yield "</p>"
    measured = [score for score in evaluation.scores if any(score in row.scores for row in rows.values())]
    columns = {
        score: _best({pair: row.scores.get(score) for pair, row in rows.items()}, evaluation.scores[score])
        for score in measured
    }
    yield _table(
        ["", *measured],
        [[escape(evaluation.labels[pair]), *_cells(row, columns, pair)] for pair, row in rows.items()],
    )
    if shown and shown[1].picture:
        yield _image(shown[1].picture, f"spectrograms, noise and bits of {item.path}")


def _cells(row: Row, columns: Mapping[str, Mapping[tuple[str, str], str]], pair: tuple[str, str]) -> list[str]:
    """Return a row of scores; a score that could not be had says why, an error stands in the first place."""
    if row.error:
        return [f'<span class="error">{escape(row.error)}</span>', *[""] * (len(columns) - 1)]
    return [
        column.get(pair) or f'<span title="{escape(row.missing.get(score, ""))}">–</span>'
        for score, column in columns.items()
    ]


def _lost(evaluation: Evaluation) -> Iterator[str]:
    """Name the recordings that each pair loses to the first one."""
    first, *others = evaluation.labels.items()
    for pair, name in others:
        yield f"<details><summary>Where {escape(name)} is worse than {escape(first[1])}</summary><ul>"
        for score in evaluation.scores:
            one = evaluation.of(ALL, score).get(pair)
            if one and one.difference:
                worse = escape(", ".join(one.worse)) or "–"
                yield f"<li>{escape(score)}, {len(one.worse)} of {one.recordings}: {worse}"
        yield "</ul></details>"


def _means(pairs: Sequence[tuple[str, str]], found: Mapping[tuple[str, str], Summary], better: str) -> Iterator[str]:
    best = _best({pair: one.value.mean for pair, one in found.items()}, better)
    for pair in pairs:
        one = found.get(pair)
        if one is None:
            yield ""
            continue
        text = f"{best[pair]}<small>[{one.value.low:.3f}, {one.value.high:.3f}]</small>"
        if one.difference:
            text += (
                f"<small>{one.difference.mean:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}]</small>"
                f"<small>{len(one.better)} better, {len(one.equal)} equal</small>"
            )
        yield text


def _best(values: Mapping[tuple[str, str], float | None], better: str) -> dict[tuple[str, str], str]:
    """Return numbers that there are as text, the best of them bold unless all are equal."""
    known = {pair: round(value, 3) for pair, value in values.items() if value is not None}
    best = (max if better == "more" else min)(known.values(), default=0.0)
    bold = len(set(known.values())) > 1
    return {pair: f"<b>{value:.3f}</b>" if bold and value == best else f"{value:.3f}" for pair, value in known.items()}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table; cells and caption are HTML, the head is text."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = [
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    ]
    words = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{words}<thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _image(png: bytes, words: str) -> str:
    return f'<img alt="{escape(words)}" loading="lazy" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _audio(media: Sequence[Media]) -> Iterator[str]:
    for k, one in enumerate(media):
        sounds = [(name, base64.b64encode(sound).decode()) for name, sound in one.sounds.items()]
        text = json.dumps(sounds).replace("<", "\\u003c")
        yield f'<script type="application/json" id="audio{k}" data-recording="{escape(one.recording)}">{text}</script>'
