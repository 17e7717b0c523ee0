"""The log of a training and the picture of its losses."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.image
import pytest

from atrac_train.pictures.curve import draw_curve
from atrac_train.tracking import JsonLog, read_log


def test_the_log_is_cut_where_the_checkpoint_is(tmp_path: Path):
    log = JsonLog(tmp_path / "log.jsonl")
    for i in range(3):
        log.write({"i": i, "x": math.nan})
    log.close()
    JsonLog(tmp_path / "log.jsonl", 2).close()
    assert read_log(tmp_path / "log.jsonl") == [{"i": 0, "x": None}, {"i": 1, "x": None}]
    with pytest.raises(ValueError, match=r"log\.jsonl: 2 whole lines, expected 3 or more"):
        JsonLog(tmp_path / "log.jsonl", 3)


@pytest.mark.parametrize("losses", [[1.0, 0.5, 0.7], [0.5, -0.5, 0.0], [0.3]])
def test_a_curve_can_be_drawn_of_any_losses(tmp_path: Path, losses: list[float]):
    lines = [{"epoch": n, "train": {"loss": x}, "validation": {"loss": x + 0.1}} for n, x in enumerate(losses, 1)]
    draw_curve(lines, tmp_path / "pictures/curve.png", start=0.2)
    assert matplotlib.image.imread(tmp_path / "pictures/curve.png").shape[:2] == (500, 1200)
