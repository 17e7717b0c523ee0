"""The pictures of the training app: there, of the right width, with something in them, whatever the sound."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import matplotlib.image
import numpy as np
import pytest
import torch

from atrac_data import BuiltinTeacher, Frames, render

APPS = Path(__file__).parents[1] / "apps"
BANKS = ("qmf", "mdct", "imdct", "iqmf")
OTHERS = ("transient", "scaler", "allocator", "quantizer", "dequantizer")
WIDTH = 1200


@pytest.fixture(scope="module")
def pictures() -> Iterator[ModuleType]:
    sys.path.insert(0, str(APPS))
    yield importlib.import_module("training.pictures")
    sys.path.remove(str(APPS))


@cache
def run_of(sound: str) -> Frames:
    """A run of two channels: an attack with short blocks, or one frame of nothing."""
    pcm = render("attacks", seconds=0.4) if sound == "attacks" else np.zeros((2, 512), np.float32)
    pcm = pcm[:, : pcm.shape[1] // 512 * 512]
    (run,) = BuiltinTeacher().frames([pcm])
    assert (run["bsm"][:, 1:] > 0).any() == (sound == "attacks")
    return run


def drawn(pictures: ModuleType, stage: str, runs: list[Frames], folder: Path, **model: int) -> dict[str, np.ndarray]:
    """Draw a stage of random weights; return the pictures' pixels by name."""
    torch.manual_seed(0)
    objective = importlib.import_module("training.stages").OBJECTIVES[stage](model).eval()
    generator = torch.Generator().manual_seed(0)
    examples = [
        objective.example({name: torch.from_numpy(np.array(run[name])) for name in objective.fields}, generator)
        for run in runs
    ]
    draw = getattr(pictures, f"draw_{'filter_bank' if stage in BANKS else stage}")
    paths = draw(objective, examples, folder / "pictures")
    assert paths
    assert sorted(paths) == sorted((folder / "pictures").iterdir())
    return {path.name: matplotlib.image.imread(path)[..., :3] for path in paths}


@pytest.mark.parametrize("stage", [*BANKS, *OTHERS])
def test_pictures_show_something(pictures: ModuleType, stage: str, tmp_path: Path) -> None:
    shown = drawn(pictures, stage, [run_of("nothing"), run_of("attacks")], tmp_path)
    for name, pixels in shown.items():
        assert pixels.shape[1] == WIDTH, name
        grey = pixels.mean(-1)
        assert 0.02 < (grey < 0.9).mean() < 0.9, name
        assert (np.ptp(pixels, axis=-1) > 0.2).mean() > 1e-3, name  # colour: the prediction, not axes alone


@pytest.mark.parametrize("stage", [*BANKS, *OTHERS])
def test_pictures_of_one_silent_frame_are_drawn(pictures: ModuleType, stage: str, tmp_path: Path) -> None:
    assert drawn(pictures, stage, [run_of("nothing")], tmp_path)


@pytest.mark.parametrize("sound", ["nothing", "attacks"])
def test_dequantizer_with_a_correction_has_more_pictures(pictures: ModuleType, sound: str, tmp_path: Path) -> None:
    shown = drawn(pictures, "dequantizer", [run_of(sound)], tmp_path, hidden=4)
    assert list(shown) == ["values.png", "spectrum.png", "correction.png"]


def test_power_spectrum_is_1_at_a_full_sine(pictures: ModuleType) -> None:
    banks = importlib.import_module("training.pictures.filter_banks")
    sine = np.sin(2 * np.pi * 16 / 256 * np.arange(1024))[None]
    power = banks.power_spectrum([sine], 256)
    assert power.argmax() == 16
    np.testing.assert_allclose(power[16], 1, rtol=1e-9)
