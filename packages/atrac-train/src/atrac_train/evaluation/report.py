"""An evaluation as one HTML file that needs nothing else: numbers, pictures, and sounds to compare, also blind.

`report.html` is the template of the page, in the language of Jinja.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment

from atrac_bitstream import write_whole
from atrac_train.evaluation import tables
from atrac_train.evaluation.bits import draw_bits
from atrac_train.evaluation.kinds import ALL
from atrac_train.evaluation.media import Media
from atrac_train.evaluation.results import Evaluation, Pair
from atrac_train.evaluation.statistics import Summary

_PAGE: Final = Path(__file__).with_name("report.html")


def write_report(evaluation: Evaluation, media: Sequence[Media], output: Path) -> None:
    """Write report.html, whole or not at all, and its pictures in a folder.

    Args:
        evaluation: the numbers.
        media: sounds and pictures of some recordings.
        output: folder for both.

    Raises: OSError
    """
    folder, bits_picture = output / "pictures", b""
    if evaluation.bits:
        bits_picture = draw_bits(evaluation.bits, folder / "bits.png").read_bytes()
    for one in media:
        picture = folder / f"{one.recording}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_whole(picture, one.picture)
    first, *others = evaluation.labels.items()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = _base64
    page = environment.from_string(_PAGE.read_text(encoding="utf-8")).render(
        title=f"{tables.counted(len(evaluation.recordings))} by {', '.join(evaluation.labels.values())}",
        means=tables.means(evaluation),
        first=first[1],
        worse={name: _compared(evaluation, pair) for pair, name in others},
        kinds=tables.means_by_kind(evaluation),
        bits=tables.bits(evaluation),
        bits_picture=bits_picture,
        recordings=evaluation.recordings,
        tables={item.path: tables.scores_of(evaluation, item) for item in evaluation.recordings},
        media={one.recording: one for one in media},
        settings=json.dumps(evaluation.settings, indent=1, ensure_ascii=False),
    )
    write_whole(output / "report.html", page.encode())


def _compared(evaluation: Evaluation, pair: Pair) -> dict[str, Summary]:
    """Return the summaries of the scores by which a pair is compared with the first one."""
    found = {score: evaluation.of(ALL, score).get(pair) for score in evaluation.scores}
    return {score: one for score, one in found.items() if one and one.difference}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
