"""The bit-exact chain against a live pytrac, on signals that the golden vectors do not have. Skipped without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_codec import build_decoder, build_encoder, from_units, to_units
from atrac_codec.outside import load_pytrac, pytrac_decode, pytrac_encode
from atrac_data import NAMES, render

pytestmark = pytest.mark.pytrac


@pytest.fixture(autouse=True, scope="module")
def _pytrac() -> None:
    try:
        load_pytrac()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 2])
@torch.no_grad()
def test_bytes_and_samples_equal_pytracs(name: str, channels: int):
    pcm = render(name, seconds=4.0, seed=7, channels=channels)
    pcm = np.pad(pcm, ((0, 0), (0, -pcm.shape[1] % 512)))
    theirs = pytrac_encode(pcm)
    ours = to_units(build_encoder("bitexact")(torch.from_numpy(pcm)[None]))[0]
    assert np.array_equal(ours, theirs)
    assert np.array_equal(build_decoder("bitexact")(from_units(theirs)).numpy(), pytrac_decode(theirs))


@pytest.mark.parametrize("gain", [4.0, 1.0, 1e-4, 1e-7, 1e-38, 0.0])
@torch.no_grad()
def test_levels_from_overload_to_denormals_equal_pytracs(gain: float):
    noise = np.random.default_rng(3).standard_normal((2, 60 * 512)).clip(-1, 1)
    noise[:, 9 * 512 : 20 * 512] = 0
    pcm = (gain * noise).astype(np.float32)
    ours = to_units(build_encoder("bitexact")(torch.from_numpy(pcm)[None]))[0]
    assert np.array_equal(ours, pytrac_encode(pcm))
