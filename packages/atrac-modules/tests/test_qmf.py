from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_modules import BitExactQmf, NeuralQmf, Qmf, ReferenceQmf
from atrac_modules.qmf import HIGH_DELAY, QMF_TAPS

STAGES = [ReferenceQmf, BitExactQmf, NeuralQmf]


@pytest.mark.parametrize("stage", STAGES)
def test_qmf_keeps_the_contract(stage: type[Qmf], build, keeps_contract, generator):
    keeps_contract(build(stage), (torch.rand(3, 2048, generator=generator) - 0.5,), ((4, 512),))


@pytest.mark.parametrize("stage", STAGES)
def test_qmf_of_the_first_frames_does_not_depend_on_the_next(stage: type[Qmf], build, generator):
    pcm = torch.rand(4 * 512, generator=generator)
    torch.testing.assert_close(build(stage)(pcm)[:2], build(stage)(pcm[:1024]), rtol=0, atol=1e-6)


def test_taps_are_48_symmetric_and_sum_to_nearly_2():
    assert len(QMF_TAPS) == 48
    assert np.array_equal(QMF_TAPS, QMF_TAPS[::-1])
    assert QMF_TAPS.sum() == pytest.approx(1.999890932396, abs=1e-12)
    assert QMF_TAPS[23] == 2 * 0.46424159


def test_qmf_matches_a_loop_over_its_definition(in_float64, generator):
    pcm = torch.rand(1024, generator=generator, dtype=torch.float64)

    def split(x: list[float]) -> tuple[list[float], list[float]]:
        at = [0.0] * 47 + x
        lower = [sum(QMF_TAPS[k] * at[47 + 2 * m + 1 - k] for k in range(48)) for m in range(len(x) // 2)]
        upper = [sum((-1) ** k * QMF_TAPS[k] * at[47 + 2 * m + 1 - k] for k in range(48)) for m in range(len(x) // 2)]
        return lower, upper

    lower, upper = split(pcm.tolist())
    low, mid = split(lower)
    high = [0.0] * HIGH_DELAY + upper[:-HIGH_DELAY]
    slow = torch.tensor([low, mid]).unflatten(-1, (2, 128)), torch.tensor(high).unflatten(-1, (2, 256))
    bands = ReferenceQmf()(pcm)
    torch.testing.assert_close(bands[:, :256].unflatten(-1, (2, 128)).transpose(0, 1), slow[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(bands[:, 256:], slow[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [0, 511, 513])
def test_qmf_rejects_parts_of_frames(length: int):
    with pytest.raises(ValueError, match=r"pcm is \[\d+\], expected \[\*, T\], T = 512 F"):
        ReferenceQmf()(torch.zeros(length))
