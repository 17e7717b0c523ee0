from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atrac_data import DataError, FrameDataset, Normalization, measure

FLOATS = ("pcm", "bands", "spectrum")


@pytest.fixture(scope="module")
def normalization(extracted: Path) -> Normalization:
    return Normalization.of(measure(FrameDataset(extracted / "train", FLOATS).runs()))


def test_normalized_fields_have_mean_0_and_deviation_1(extracted, normalization):
    runs = list(FrameDataset(extracted / "train", FLOATS).runs())
    for name in FLOATS:
        normal = normalization.normalize(name, np.concatenate([run[name].ravel() for run in runs])).astype(np.float64)
        assert (normal.mean(), normal.std()) == pytest.approx((0, 1), abs=1e-5)  # float32


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_denormalize_undoes_normalize_and_keeps_the_type(normalization, dtype: type, tolerance: float):
    array = np.random.default_rng(0).standard_normal((3, 512)).astype(dtype)
    for own in (array, torch.from_numpy(array)):
        normal = normalization.normalize("bands", own)
        back = normalization.denormalize("bands", normal)
        assert normal.dtype == back.dtype == own.dtype
        assert type(normal) is type(back) is type(own)
        assert np.abs(np.asarray(back) - array).max() < tolerance


def test_gradients_flow_through_and_a_field_that_never_changes_is_only_moved():
    x = torch.zeros(4, requires_grad=True)
    normalization = Normalization({"pcm": 1.0, "loudness": 3.0}, {"pcm": 4.0, "loudness": 0.0})
    normalization.normalize("pcm", x).sum().backward()
    assert x.grad is not None
    assert (x.grad == 0.25).all()
    assert normalization.normalize("loudness", np.array([3.0])).tolist() == [0]
    assert normalization.denormalize("loudness", np.array([0.0])).tolist() == [3]
    with pytest.raises(KeyError, match="dec_pcm"):
        normalization.normalize("dec_pcm", x)


def test_what_is_saved_is_loaded(normalization, tmp_path: Path):
    normalization.save(tmp_path / "n.json")
    assert Normalization.load(tmp_path / "n.json") == normalization
    with pytest.raises(FileNotFoundError):
        Normalization.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"mean": {}}', '{"mean": {"pcm": "x"}, "deviation": {"pcm": 1}}',
        '{"mean": {"pcm": 1}, "deviation": {"bands": 1}}', '{"mean": {"pcm": NaN}, "deviation": {"pcm": 1}}',
        '{"mean": 1, "deviation": 2}', "[" * 10_000,
    ],
)  # fmt: skip
def test_anything_else_is_named(tmp_path: Path, content: str):
    (tmp_path / "n.json").write_text(content)
    with pytest.raises(DataError, match=r"n\.json: no normalization"):
        Normalization.load(tmp_path / "n.json")
