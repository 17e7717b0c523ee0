"""What a training reads: batches that seed and epoch fix, runs shared among ranks, variants of the built-in corpus."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrac_data import DataError
from atrac_train.data import TrainingData, corpus_shards
from atrac_train.objectives import ScalerObjective
from atrac_train.settings import DataSettings, TrainingSettings


def opened(shards: Path, *, rank: int = 0, world: int = 1, frames: int = 1, seed: int = 0, **data: Any) -> TrainingData:
    objective = ScalerObjective({})
    objective.frames = frames
    settings = TrainingSettings("scaler", 1, 3, seed=seed, data=DataSettings(str(shards), **data))
    return TrainingData(objective, settings, "cpu", rank, world)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_batches_have_frames_and_are_fixed_by_seed_and_epoch(shards: Path):
    def drawn(epoch: int, **more: Any) -> list[dict[str, Tensor]]:
        return list(opened(shards, batch_size=6, shuffle=20, **more).training_batches(epoch))

    assert [list(batch["idsf"].shape) for batch in drawn(1)] == [[6, 1, 52]] * 3
    assert list(drawn(1, frames=4)[0]["scaled"].shape) == [6, 4, 512]
    assert all(same(*pair) for pair in zip(drawn(2), drawn(2), strict=True))
    assert not same(drawn(2)[0], drawn(3)[0])
    assert not same(drawn(2)[0], drawn(2, seed=2)[0])


def test_ranks_share_what_is_evaluated_and_all_see_the_same_few_runs(shards: Path):
    def runs(rank: int = 0, world: int = 1, some: int = 0) -> list[Tensor]:
        return [example["spectrum"] for _, example in opened(shards, rank=rank, world=world).examples("train", some)]

    whole = runs()
    shared = [runs(rank, 3) for rank in range(3)]
    assert all(torch.equal(shared[number % 3][number // 3], own) for number, own in enumerate(whole))
    few = runs(0, 3, some=4)
    assert len(few) == 4
    assert all(torch.equal(*pair) for pair in zip(few, runs(2, 3, some=4), strict=True))


def test_validation_and_test_may_lie_elsewhere(shards: Path, tmp_path: Path):
    corpus = corpus_shards(tmp_path, DataSettings(sounds=("noise",), seconds=0.2), ScalerObjective.fields)
    shutil.copytree(corpus, tmp_path / "other")
    mixed, alone, other = opened(shards, evaluation=str(tmp_path / "other")), opened(shards), opened(corpus)
    for split, whole in (("train", alone), ("validation", other), ("test", other)):
        pairs = zip(mixed.runs(split), whole.runs(split), strict=True)
        assert all(number == n and same(run, own) for (number, run), (n, own) in pairs)
    assert mixed.about() == alone.about()


def test_a_field_that_shards_lack_is_named(tmp_path: Path):
    corpus = corpus_shards(tmp_path, DataSettings(sounds=("noise",), seconds=0.2), ("pcm",))
    with pytest.raises(DataError, match="no field 'spectrum', it has pcm"):
        opened(corpus)


def test_variants_of_the_built_in_corpus_are_for_training_alone(tmp_path: Path):
    settings = DataSettings(sounds=("noise",), seconds=0.2)
    changed = replace(settings, variants=3, gain=(-12, -6))
    plain, more = (
        opened(corpus_shards(tmp_path / str(one.variants), one, ScalerObjective.fields)) for one in (settings, changed)
    )
    for split in ("validation", "test"):
        assert all(same(*pair) for (_, *pair) in _paired(plain, more, split))
    first, runs = ([run for _, run in data.runs("train")] for data in (plain, more))
    assert len(runs) == 3 * len(first)
    assert all(map(same, first, runs))
    levels = [float(run["spectrum"].square().sum(-1).mean()) for run in runs]
    gains = [10 * math.log10(level / levels[i % len(first)]) for i, level in enumerate(levels)][len(first) :]
    assert all(-12.5 < gain < -5.5 for gain in gains)
    assert np.std(gains) > 0.5
    with pytest.raises(DataError, match=r'"variants": 3.*not .*"variants": 2.*remove it or choose another'):
        corpus_shards(tmp_path / "3", replace(changed, variants=2), ScalerObjective.fields)


def _paired(one: TrainingData, other: TrainingData, split: str) -> list[tuple[int, Any, Any]]:
    return [(n, run, own) for (n, run), (_, own) in zip(one.runs(split), other.runs(split), strict=True)]
