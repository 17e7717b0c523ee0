"""Measures taken block by block equal those of the whole recording."""

import pytest
import torch
from torch import Tensor

from atrac_losses import RunningMeasures, log_spectral_distance, noise_to_mask, segmental_snr, snr

FLOAT32_DB = 1e-3
"""dB, or %: the same frames, added up in another order and in float64."""

SAMPLES = 150_001
"""More than two stretches of 128 frames, and a last frame of one sample less than 512."""


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """Decoded and original: bursts that mask what comes after them, a channel that is silent for a while."""
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(SAMPLES) / 44100
    envelope = torch.stack([torch.where(time % 0.3 < 0.05, 0.5, 0.002), torch.where(time < 1.0, 0.0, 0.1)])
    reference = envelope * torch.randn(2, SAMPLES, generator=generator)
    return reference + 0.03 * envelope.roll(-900, -1) * torch.randn(2, SAMPLES, generator=generator), reference


def measured(pair: tuple[Tensor, Tensor], block: int) -> dict[str, float]:
    running = RunningMeasures(len(pair[0]))
    for decoded, reference in zip(*(signal.split(block, dim=-1) for signal in pair)):
        running.push(decoded, reference)
    return running.result()


def whole(decoded: Tensor, reference: Tensor) -> dict[str, float]:
    ear = noise_to_mask(decoded, reference)
    return {
        "SNR (dB)": snr(decoded, reference).item(),
        "segmental SNR (dB)": segmental_snr(decoded, reference).item(),
        "log-spectral distance (dB)": log_spectral_distance(decoded, reference).item(),
        "noise-to-mask ratio (dB)": ear.ratio.mean().item(),
        "disturbed frames (%)": 100.0 * ear.disturbed.mean().item(),
        "peak difference": (decoded - reference).abs().max().item(),
    }


@pytest.mark.parametrize("block", [997, 65_536, SAMPLES])
@pytest.mark.parametrize("samples", [1, 512, 1025, (128 + 2) * 512 - 1, (128 + 2) * 512, SAMPLES])
def test_blocks_measure_as_the_whole(samples: int, block: int, pair: tuple[Tensor, Tensor]) -> None:
    decoded, reference = (signal[:, -samples:] for signal in pair)
    assert measured((decoded, reference), block) == pytest.approx(whole(decoded, reference), abs=FLOAT32_DB)


def test_results_do_not_depend_on_the_blocks_and_may_be_taken_at_any_time(pair: tuple[Tensor, Tensor]) -> None:
    decoded, reference = pair
    running = RunningMeasures(2)
    running.push(decoded[:, :70_000], reference[:, :70_000])
    assert running.result() == measured((decoded[:, :70_000], reference[:, :70_000]), 512)
    running.push(decoded[:, 70_000:], reference[:, 70_000:])
    running.push(decoded[:, :0], reference[:, :0])
    assert running.result() == measured(pair, 512)


def test_wrong_blocks_are_refused() -> None:
    running = RunningMeasures(2)
    with pytest.raises(ValueError, match=r"decoded \[2, 5\], reference \[2, 4\], allowed \[2, n\] for both"):
        running.push(torch.zeros(2, 5), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"decoded \[1, 5\]"):
        running.push(torch.zeros(1, 5), torch.zeros(1, 5))
    with pytest.raises(TypeError, match=r"estimate is torch\.int16"):
        running.push(torch.zeros(2, 5, dtype=torch.int16), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="no samples"):
        running.result()
    with pytest.raises(ValueError, match="channels = 0"):
        RunningMeasures(0)
