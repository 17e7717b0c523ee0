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
pytestmark = pytest.mark.usefixtures("quick")

BANKS = ("qmf", "mdct", "imdct", "iqmf")
WIDTH = 1200


@pytest.fixture(scope="module")
def pictures() -> Iterator[ModuleType]:
    sys.path.insert(0, str(APPS))
    yield importlib.import_module("training.pictures")
    sys.path.remove(str(APPS))


@pytest.fixture
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out only the fullest pictures, for half of the time goes there."""
    if "transient" not in request.node.name:
        monkeypatch.setattr("matplotlib.layout_engine.do_constrained_layout", lambda *args, **kwargs: None)


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


@pytest.mark.parametrize(
    ("stage", "names"),
    {
        "qmf": ["bands.png"],
        "mdct": ["spectra.png"],
        "imdct": ["bands.png"],
        "iqmf": ["waveform.png"],
        "transient": ["filters.png", "masks.png"],
        "scaler": ["scaler.png"],
        "allocator": ["word-lengths.png"],
        "quantizer": ["quantizer.png"],
        "dequantizer": ["correction.png", "spectrum.png", "values.png"],
    }.items(),
)
def test_pictures_show_something(pictures: ModuleType, stage: str, names: list[str], tmp_path: Path) -> None:
    model = {"hidden": 4} if stage == "dequantizer" else {}
    shown = drawn(pictures, stage, [run_of("nothing"), run_of("attacks")], tmp_path, **model)
    assert sorted(shown) == names
    for name, pixels in shown.items():
        assert pixels.shape[1] == WIDTH, name
        assert 0.02 < (pixels.mean(-1) < 0.9).mean() < 0.9, name
        assert (np.ptp(pixels, axis=-1) > 0.2).mean() > 1e-3, name  # colour: the prediction, not axes alone


@pytest.mark.parametrize("stage", ["mdct", "iqmf", "transient", "scaler", "allocator", "quantizer"])
def test_pictures_of_one_silent_frame_are_drawn(pictures: ModuleType, stage: str, tmp_path: Path) -> None:
    assert drawn(pictures, stage, [run_of("nothing")], tmp_path)


@pytest.mark.parametrize("hidden", [0, 4])
def test_silent_dequantizer_shows_a_correction_if_there_is_one(
    pictures: ModuleType, hidden: int, tmp_path: Path
) -> None:
    shown = drawn(pictures, "dequantizer", [run_of("nothing")], tmp_path, hidden=hidden)
    assert ("correction.png" in shown) == (hidden > 0)


def test_power_spectrum_is_1_at_a_full_sine(pictures: ModuleType) -> None:
    banks = importlib.import_module("training.pictures.filter_banks")
    sine = np.sin(2 * np.pi * 16 / 256 * np.arange(1024))[None]
    power = banks.power_spectrum([sine], 256)
    assert power.argmax() == 16
    np.testing.assert_allclose(power[16], 1, rtol=1e-9)
