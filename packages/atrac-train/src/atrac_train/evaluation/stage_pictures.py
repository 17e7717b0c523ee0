"""The picture of a comparison stage by stage, which reads like the block diagram: the chain, and under it the fields.

Values go by the level of their error, whole numbers by the share that differs, on one scale: 20 log10(share), so that
each tenth has the height of 20 dB.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from matplotlib.patches import Patch, Rectangle

from atrac_train.evaluation.chain import STAGES
from atrac_train.evaluation.stages import BAND_NAMES, COLUMNS, COMPARABLE, MAIN, WHOLE
from atrac_train.pictures.figure import ERROR, OWN, new_figure, save

_COLOURS: Final = {"alone": OWN, "chained": ERROR}
_SHADES: Final = {None: 0.85, "low": 1.0, "mid": 0.65, "high": 0.35}
"""How strong the colour of a band is."""
_FLOOR: Final = -150.0
"""dB at which the bars begin."""
_TOP: Final = 16.0
_WIDE: Final = 0.42
"""Of the bars of one column, of a field's room of 1."""


def draw_stages(report: dict[str, Any], picture: Path) -> Path:
    """Draw how far every field of the chain is off.

    Args:
        report: `encoder`, `decoder`, `teacher`, and `fields` and `original` as `Comparison` gives them.
        picture: PNG file to write.

    Raises: OSError
    """
    original = report["original"]["mean"]
    encoder, decoder = (Path(report[half]).name for half in ("encoder", "decoder"))
    figure = new_figure(
        f"Encoder {encoder}, decoder {decoder}, held against teacher {report['teacher']}\n"
        f"decoded sounds to the original, mean SNR: {original['candidate']:.2f} dB, teacher "
        f"{original['teacher']:.2f} dB, difference {original['difference']:+.2f} dB",
        6.8,
    )
    chain, axes = figure.subplots(2, 1, sharex=True, height_ratios=[0.12, 1])
    _draw_chain(chain)
    for i, field in enumerate(STAGES):
        if field in WHOLE:
            axes.axvspan(i - 0.5, i + 0.5, color="0.93", zorder=-2, linewidth=0)
        for k, column in enumerate(COLUMNS):
            subsets = report["fields"][field].get(column)
            if subsets:
                likely = subsets.get(COMPARABLE.get(field, ""))
                _draw_bars(axes, i + (k - 1) * _WIDE, subsets[MAIN.get(field, "all")], likely, field in WHOLE, column)
    axes.set_xticks(range(len(STAGES)), STAGES, rotation=25, ha="right", rotation_mode="anchor")
    axes.set(xlim=(-0.55, len(STAGES) - 0.45), ylim=(_FLOOR, _TOP), ylabel="error level, dB of the teacher's values")
    axes.set_yticks(range(-140, 1, 20))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    shares = axes.secondary_yaxis("right")
    shares.set_yticks(
        range(-140, 1, 20),
        [f"{100 * 10 ** (tick / 20):.5f}".rstrip("0").rstrip(".") + " %" for tick in range(-140, 1, 20)],
    )
    shares.set_ylabel("whole numbers (on grey): share that differs")
    named = {
        "alone": "alone, fed with the teacher's",
        "chained": "chained, fed with its own",
    }
    looks = [Patch(color=_COLOURS[column], label=name) for column, name in named.items()]
    looks += [Patch(color="0.3", alpha=_SHADES[band], label=band) for band in BAND_NAMES]
    looks += axes.plot([], [], color="black", linewidth=1.5, label="where block modes (scale factors) agree")
    figure.legend(handles=looks, loc="outside lower center", ncols=len(looks), frameon=False, fontsize=8.5)
    return save(figure, picture)


def level(numbers: dict[str, Any], whole: bool) -> float:
    """Return at which height something is drawn: minus infinity if nothing differs."""
    if not whole:
        return -float(numbers["SNR (dB)"])
    share = 1 - numbers["equal (%)"] / 100
    return 20 * math.log10(share) if share else -math.inf


def _draw_bars(
    axes: Any, left: float, numbers: dict[str, Any], likely: dict[str, Any] | None, whole: bool, column: str
) -> None:
    """Draw one column of a field, from `left` on: a bar for each band or a single one, and what they are in all."""
    parts = [band for band in BAND_NAMES if band in numbers] or [None]
    width = _WIDE / len(parts)
    highest = _FLOOR
    for k, part in enumerate(parts):
        place = left + (k + 0.5) * width
        top = min(level(numbers[part] if part else numbers, whole), 0.0 if whole else _TOP - 10)
        if top > _FLOOR:  # not if it is not a number
            look = {"color": _COLOURS[column], "alpha": _SHADES[part], "linewidth": 0}
            axes.bar(place, top - _FLOOR, 0.9 * width, bottom=_FLOOR, **look)
            highest = max(highest, top)
        mark = level(likely[part] if part else likely, whole) if likely else math.nan
        if math.isfinite(mark) and abs(mark - top) > 1:
            axes.plot([place - 0.45 * width, place + 0.45 * width], [mark, mark], color="black", linewidth=1.5)
    total = level(numbers, whole)
    words = _in_words(numbers, total, whole)
    quiet = highest == _FLOOR
    look = {"rotation": 90, "va": "bottom", "ha": "center", "fontsize": 8, "color": "0.45" if quiet else "black"}
    axes.text(left + _WIDE / 2, highest + 2, words, **look)


def _in_words(numbers: dict[str, Any], total: float, whole: bool) -> str:
    if math.isnan(total):
        return "nothing"
    if total == -math.inf:
        return "equal"
    return f"{100 - numbers['equal (%)']:.2g} %" if whole else f"{total:.0f} dB"


def _draw_chain(axes: Any) -> None:
    """Draw the stages over their fields, from left to right."""
    axes.set(ylim=(0, 1))
    axes.set_axis_off()
    places: dict[str, list[int]] = {}
    for i, stage in enumerate(STAGES.values()):
        places.setdefault(stage, []).append(i)
    for stage, own in places.items():
        left, right = own[0] - 0.46, own[-1] + 0.46
        units = stage == "encoder"
        if not units:
            axes.add_patch(Rectangle((left, 0.12), right - left, 0.76, facecolor="white", edgecolor="0.2"))
        words = "212\nbytes" if units else stage
        axes.text((left + right) / 2, 0.5, words, ha="center", va="center", fontsize=7.5)
        if own[0]:
            arrow = {"arrowstyle": "->", "color": "0.2", "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (left + 0.03, 0.5), (left - 0.11, 0.5), arrowprops=arrow)
