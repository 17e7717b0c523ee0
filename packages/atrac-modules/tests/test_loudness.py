from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_modules import BitExactLoudness, Loudness, ReferenceLoudness, ShapeError
from atrac_modules.loudness import loudness_curve

SIBLINGS = [ReferenceLoudness, BitExactLoudness]


def slow_loudness(spectrum: np.ndarray, bsm: np.ndarray, value: float = 0.006) -> list[float]:
    """Follow one recording [C, F, 512] frame by frame."""
    track = []
    for frame in range(spectrum.shape[1]):
        energies = [(spectrum[c, frame].astype(np.float64) ** 2 * loudness_curve()).sum() for c in range(len(spectrum))]
        long = [not bsm[c, frame].any() for c in range(len(spectrum))]
        if len(long) == 2 and all(long):
            value = 0.98 * value + 0.01 * sum(energies)
        elif long[0]:
            value = 0.98 * value + 0.02 * energies[0]
        track.append(value)
    return track


@pytest.mark.parametrize("sibling", SIBLINGS)
@pytest.mark.parametrize("channels", [1, 2])
def test_loudness_matches_a_loop_over_frames(sibling: type[Loudness], channels: int, generator, random_bsm):
    spectrum = torch.randn(3, channels, 40, 512, generator=generator)
    bsm = random_bsm(3, channels, 40) * (torch.rand(3, channels, 40, 1, generator=generator) < 0.4)
    track = sibling()(spectrum, bsm)
    assert track.loudness.shape == (3, 40)
    for k in range(3):
        slow = slow_loudness(spectrum[k].numpy(), bsm[k].numpy())
        np.testing.assert_allclose(track.loudness[k].numpy(), slow, rtol=2e-6)


@pytest.mark.parametrize("sibling", SIBLINGS)
def test_loudness_goes_on_where_it_ended(sibling: type[Loudness], generator):
    spectrum = torch.randn(2, 2, 30, 512, generator=generator)
    bsm = torch.zeros(2, 2, 30, 3)
    whole = sibling()(spectrum, bsm)
    first = sibling()(spectrum[:, :, :11], bsm[:, :, :11])
    second = sibling()(spectrum[:, :, 11:], bsm[:, :, 11:], first.end)
    torch.testing.assert_close(torch.cat([first.loudness, second.loudness], 1), whole.loudness, rtol=2e-7, atol=0)
    assert torch.equal(whole.end, whole.loudness[:, -1])


def test_curve_has_512_weights_and_its_peak_in_the_ears_best_region():
    curve = loudness_curve()
    assert curve.shape == (512,)
    assert curve.dtype == np.float32
    # By hand at 0: f = 129.2 Hz, t = -10 (2.1113 - 3.5)^2 + 3 - 0.0431 = -16.328
    assert curve[0] == pytest.approx(10**-1.6328, rel=1e-3)
    assert 1500 < (int(curve.argmax()) + 3) * 22050 / 512 < 3500


@pytest.mark.parametrize("shape", [(1, 3, 4, 512), (2, 4, 512), (1, 2, 4, 500)])
def test_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ShapeError, match=r"spectrum is .*, expected \[B, C, F, 512\] with C = 1 or 2"):
        ReferenceLoudness()(torch.zeros(shape), torch.zeros(*shape[:-1], 3))
