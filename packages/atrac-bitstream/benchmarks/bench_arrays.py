"""Time 60 s of stereo in and out of its bytes: pytest benchmarks/bench_arrays.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream import SoundUnit, pack_units, unpack_units

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "units.npz"
FRAMES = 5168
"""60 s at 44.1 kHz, 512 samples each."""
ONE_BY_ONE = 64
"""Frames that the slow form gets, because it takes half a millisecond for each sound unit."""


@pytest.fixture(scope="module")
def units() -> NDArray[np.uint8]:
    """Frames of all golden signals in stereo, repeated [5168, 2, 212]."""
    with np.load(GOLDEN) as file:
        stereo = [file[name] for name in file.files if name.endswith("_stereo.sound_units")]
    frames = np.concatenate(stereo)
    return np.ascontiguousarray(np.resize(frames, (FRAMES, *frames.shape[1:])))


@pytest.mark.benchmark(group="unpack 60 s of stereo", warmup=True, warmup_iterations=1, min_rounds=5)
def test_unpack_units(benchmark: Any, units: NDArray[np.uint8]) -> None:
    fields = benchmark(unpack_units, units)
    assert fields.quantized.shape == (FRAMES, 2, 512)


@pytest.mark.benchmark(group="pack 60 s of stereo", warmup=True, warmup_iterations=1, min_rounds=5)
def test_pack_units(benchmark: Any, units: NDArray[np.uint8]) -> None:
    fields = unpack_units(units)
    packed = benchmark(pack_units, *fields)
    assert (packed == units).all()


@pytest.mark.benchmark(group="64 frames of stereo, one sound unit at a time", warmup=True, warmup_iterations=1)
@pytest.mark.parametrize("direction", ["unpack", "pack"])
def test_one_by_one(benchmark: Any, direction: str, units: NDArray[np.uint8]) -> None:
    data = [unit.tobytes() for unit in units[:ONE_BY_ONE].reshape(-1, 212)]
    objects = [SoundUnit.unpack(each) for each in data]
    if direction == "unpack":
        assert benchmark(lambda: [SoundUnit.unpack(each) for each in data]) == objects
    else:
        assert benchmark(lambda: [each.pack() for each in objects]) == data
