from __future__ import annotations

import pytest
import torch

from atrac_modules import BitExactIqmf, BitExactQmf, Iqmf, NeuralIqmf, ReferenceIqmf, ReferenceQmf
from atrac_modules.qmf import QMF_TAPS

STAGES = [ReferenceIqmf, BitExactIqmf, NeuralIqmf]
GAIN = torch.tensor([1 / 4, 1 / 4, 1 / 2]).repeat_interleave(torch.tensor([128, 128, 256]))
"""What the inverse MDCT scales the bands by."""


@pytest.mark.parametrize("stage", STAGES)
def test_iqmf_keeps_the_contract(stage: type[Iqmf], build, keeps_contract, generator):
    keeps_contract(build(stage), (torch.rand(3, 4, 512, generator=generator) - 0.5,), ((2048,),))


def test_iqmf_matches_a_loop_over_its_definition(in_float64, generator):
    bands = torch.rand(2, 512, generator=generator, dtype=torch.float64)

    def join(lower: list[float], upper: list[float]) -> list[float]:
        merged = [0.0] * 46 + [v for a, b in zip(lower, upper, strict=True) for v in (a + b, a - b)]
        out = []
        for j in range(0, len(merged) - 46, 2):
            out.append(sum(QMF_TAPS[i + 1] * merged[j + i + 1] for i in range(0, 48, 2)))
            out.append(sum(QMF_TAPS[i] * merged[j + i] for i in range(0, 48, 2)))
        return out

    low, mid, high = (bands[:, s].flatten().tolist() for s in (slice(128), slice(128, 256), slice(256, 512)))
    slow = join(join(low, mid), ([0.0] * 39 + high)[:512])
    torch.testing.assert_close(ReferenceIqmf()(bands), torch.tensor(slow), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("qmf", "iqmf"), [(ReferenceQmf, ReferenceIqmf), (BitExactQmf, BitExactIqmf)])
def test_white_noise_comes_back_after_266_samples(qmf, iqmf, generator):
    pcm = torch.rand(16 * 512, generator=generator) - 0.5
    bands = qmf()(pcm) * GAIN
    # In the place of the MDCT, which delays each band by 32 of its samples.
    delayed = [
        torch.nn.functional.pad(band.flatten(), (32, -32)).unflatten(-1, (16, -1))
        for band in bands.split([128, 128, 256], -1)
    ]
    back = iqmf()(torch.cat(delayed, -1))
    error = back[266:] - pcm[:-266]
    snr = 10 * torch.log10(pcm.square().mean() / error.square().mean())
    assert 70 < snr < 85, "the filter bank alone reconstructs to 74..79 dB"
