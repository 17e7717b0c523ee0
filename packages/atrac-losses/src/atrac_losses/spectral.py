"""The log-spectral distance: how far two spectra lie apart in decibels."""

import torch
from torch import Tensor

from atrac_losses.reduction import Reduction, reduce_frames
from atrac_losses.signals import SignalPair, autocast_off
from atrac_losses.spectrogram import frames_that_count, power_spectrogram, root


def log_spectral_distance(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    sample_rate: float = 44100,
    n_fft: int = 2048,
    hop: int = 512,
    f_max: float | None = None,
    floor: float = -100.0,
) -> Tensor:
    """Compare two spectra in decibels, bin by bin: lower is better, 0 for equal inputs.

    level = 10 log10(power + 10 ** (floor / 10))
    distance = mean over frames of sqrt(mean over bins of (level_estimate - level_reference) ** 2)

    The floor is added, not a limit: what lies far below it counts as equal, and a bin that the estimate has
    lost still has a gradient. A frame counts when the sample at its centre counts, so padding at the end
    changes nothing; a signal without such a frame is left out of mean and sum, and reads 0 under "none".

    Args:
        estimate: the signal to be judged.
        reference: the original signal.
        mask: true, or any number but 0, where a sample counts; default: all count.
        reduction: "mean", "sum" or "none" over the batch.
        sample_rate: Hz, default 44100; places f_max.
        n_fft: samples under the Hann window, default 2048; longer separates tones, shorter separates moments.
        hop: samples from frame to frame, default 512.
        f_max: Hz, the highest bin compared; default: all bins. Lower leaves out what a codec cuts on purpose.
        floor: dB re a full-scale sine in its bin, default -100; higher lets quiet bins weigh less.

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    any real floating point; computed in float32 at least, also under autocast.
    Units:    dB
    Raises:   TypeError and ValueError as `SignalPair.of` and `reduce_batch` do; ValueError for n_fft below 2,
              hop below 1 and f_max outside 0 to sample_rate / 2.
    Source:   Gray and Markel, "Distance measures for speech processing", IEEE Trans. ASSP 24 (5), 1976
    Example:
        >>> hiss = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
        >>> round(log_spectral_distance(hiss, 10.0 * hiss).item(), 3)
        20.0
    """
    if f_max is not None and not 0 < f_max <= sample_rate / 2:
        raise ValueError(f"f_max = {f_max} Hz, allowed above 0 and up to {sample_rate / 2} Hz")
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        n_bins = n_fft // 2 + 1 if f_max is None else int(f_max * n_fft / sample_rate) + 1
        distances = frame_distances(pair.estimate, pair.reference, n_fft, hop, n_bins, floor)
        return reduce_frames(distances, frames_that_count(pair.valid, hop), reduction)


def frame_distances(
    estimate: Tensor,
    reference: Tensor,
    n_fft: int = 2048,
    hop: int = 512,
    n_bins: int | None = None,
    floor: float = -100.0,
) -> Tensor:
    """Measure the distance of each frame of `log_spectral_distance`.

    Args:
        estimate, reference, n_fft, hop, floor: as `log_spectral_distance`.
        n_bins: number of bins compared, from 0 Hz up; default: all.

    Shape:    estimate, reference [*, T] -> [*, ceil(T / hop)]
    Units:    dB
    """
    levels = [
        10.0 * torch.log10(power_spectrogram(signal, n_fft, hop)[..., :n_bins] + 10.0 ** (floor / 10.0))
        for signal in (estimate, reference)
    ]
    return root((levels[0] - levels[1]).square().mean(dim=-1))
