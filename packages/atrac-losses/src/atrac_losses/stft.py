"""STFT losses: the difference of two short-time spectra, at one resolution or at several.

A loss is a weighted sum of parts, each a function of two spectra:

    spectral_convergence   difference of magnitudes over all magnitudes     strong bins dominate
    log_magnitude_error    difference of the logarithms of magnitudes       all bins weigh the same
    phase_error            difference of phases, weighted by magnitude      silent bins do not count

A part takes `(estimate, reference, counted)`, complex spectra `[*, F, n]` and the frames that count `[*, F]` or None,
and returns one value per signal `[*]`, 0 for equal spectra. Any function that does so is a part. Settings are given
with `functools.partial`, weights beside the part: `parts=((1.0, spectral_convergence), (0.1, phase_error))`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from atrac_losses.reduction import Reduction, masked_mean, reduce_batch
from atrac_losses.signals import SignalPair, autocast_off
from atrac_losses.spectrogram import frames_that_count, power, root, spectrogram

StftPart = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""estimate, reference [*, F, n] complex, counted [*, F] or None -> [*]"""


def spectral_convergence(
    estimate: Tensor, reference: Tensor, counted: Tensor | None = None, *, floor: float = -100.0
) -> Tensor:
    """Compare the energy of the difference of magnitudes with the energy of the reference.

    error = sqrt(mean((|estimate| - |reference|) ** 2)) / sqrt(mean(|reference| ** 2) + 10 ** (floor / 10))

    Args:
        estimate, reference: spectra as `spectrogram` makes them.
        counted: true for a frame that counts; default: all do.
        floor: dB re a full-scale sine in every bin, default -100: what a silent reference is taken for.

    Shape:    estimate, reference [*, F, n], counted [*, F] -> [*]
    Units:    share of the reference's amplitude, 0 and up
    Source:   Yamamoto, Song, Kim, "Parallel WaveGAN", ICASSP 2020, arXiv 1910.11480
    Differs:  the floor.
    Example:
        >>> spectral_convergence(torch.tensor([[3.0 + 0j]]), torch.tensor([[4.0 + 0j]]))
        tensor(0.2500)
    """
    error = root(power(estimate)) - root(power(reference))
    above = masked_mean(error.square().mean(dim=-1), counted)
    below = masked_mean(power(reference).mean(dim=-1), counted)
    return root(above) / torch.sqrt(below + 10.0 ** (floor / 10.0))


def log_magnitude_error(
    estimate: Tensor, reference: Tensor, counted: Tensor | None = None, *, floor: float = -100.0
) -> Tensor:
    """Average the absolute difference of the logarithms of magnitudes.

    level = ln(|x| ** 2 + 10 ** (floor / 10)) / 2
    error = mean(|level_estimate - level_reference|)

    Args:
        estimate, reference, counted: as `spectral_convergence`.
        floor: dB re a full-scale sine in its bin, default -100; higher lets quiet bins weigh less.

    Shape:    estimate, reference [*, F, n], counted [*, F] -> [*]
    Units:    neper: 1 is a factor e of amplitude, 8.69 dB
    Source:   as `spectral_convergence`
    Differs:  the floor is added; there, magnitudes are clamped.
    Example:
        >>> log_magnitude_error(torch.tensor([[torch.e + 0j]]), torch.tensor([[1.0 + 0j]]))
        tensor(1.)
    """
    least = 10.0 ** (floor / 10.0)
    difference = 0.5 * (torch.log(power(estimate) + least) - torch.log(power(reference) + least))
    return masked_mean(difference.abs().mean(dim=-1), counted)


def phase_error(estimate: Tensor, reference: Tensor, counted: Tensor | None = None, *, floor: float = -100.0) -> Tensor:
    """Average the difference of phases, each bin weighted by the magnitude of the reference.

    point = x / sqrt(|x| ** 2 + 10 ** (floor / 10))
    error = sum(|reference| * |point_estimate - point_reference| ** 2 / 2) / sum(|reference|)

    Well above the floor a point lies on the unit circle and half the squared distance is 1 - cos(phase difference): 0
    for equal phases, 1 for a quarter turn, 2 for opposite ones, with nothing to unwrap. Near the floor points shrink to
    0, where a phase means nothing; a bin that the estimate has lost is at 1/2.

    Args:
        estimate, reference, counted: as `spectral_convergence`.
        floor: dB re a full-scale sine in its bin, default -100; higher makes gradients of faint bins smaller, which
            are at most 10 ** (-floor / 20) times the weight.

    Shape:    estimate, reference [*, F, n], counted [*, F] -> [*]
    Units:    1 - cos of an angle, 0 to 2; a silent reference is at 0
    Source:   the distance on the unit circle is our choice, against the jump of a wrapped difference
    Example:
        >>> round(phase_error(torch.tensor([[0.0 + 2.0j]]), torch.tensor([[1.0 + 0j]])).item(), 4)
        1.0
    """
    least = 10.0 ** (floor / 10.0)
    points = [x / (power(x) + least).sqrt() for x in (estimate, reference)]
    turned = 0.5 * power(points[0] - points[1])
    weight = root(power(reference))
    above = masked_mean((weight * turned).mean(dim=-1), counted)
    below = masked_mean(weight.mean(dim=-1), counted)
    return above / (below + _NO_WEIGHT)


_NO_WEIGHT = 1e-15
"""Added to a mean magnitude, so that silence has error 0; far below anything that sounds."""

PARTS: tuple[tuple[float, StftPart], ...] = ((1.0, spectral_convergence), (1.0, log_magnitude_error))
"""Default parts with their weights, those of Parallel WaveGAN."""

RESOLUTIONS = ((2048, 512), (512, 128), (128, 32))
"""Default windows and hops in samples, from tones to attacks (46, 12 and 3 ms at 44.1 kHz)."""


def stft_loss(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    parts: Sequence[tuple[float, StftPart]] = PARTS,
    n_fft: int = 1024,
    hop: int = 256,
) -> Tensor:
    """Compare two short-time spectra in the given parts: lower is better, 0 for equal inputs.

    loss = sum of weight * part(spectrogram(estimate), spectrogram(reference))

    A frame counts when the sample at its centre counts; a signal without such a frame is left out of mean and sum, and
    reads 0 under "none".

    Args:
        estimate: the signal to be judged.
        reference: the original signal.
        mask: true, or any number but 0, where a sample counts; default: all count.
        reduction: "mean", "sum" or "none" over the batch.
        parts: weights and parts; default: spectral convergence and log magnitude, 1 each.
        n_fft: samples under the Hann window, default 1024; longer separates tones, shorter separates moments.
        hop: samples from frame to frame, default 256.

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    any real floating point; computed in float32 at least, also under autocast.
    Units:    as the parts, weighted
    Raises:   TypeError and ValueError as `SignalPair.of` and `reduce_batch` do; ValueError for n_fft below 2, hop
              below 1 and no parts.
    Source:   as the parts
    Example:
        >>> hiss = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
        >>> round(stft_loss(0.5 * hiss, hiss).item(), 3)  # 0.5 of the amplitude is wrong, and ln 2 = 0.693
        1.193
    """
    return multi_resolution_stft_loss(estimate, reference, mask, reduction, parts=parts, resolutions=((n_fft, hop),))


def multi_resolution_stft_loss(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    parts: Sequence[tuple[float, StftPart]] = PARTS,
    resolutions: Sequence[tuple[int, int]] = RESOLUTIONS,
) -> Tensor:
    """Average `stft_loss` over several resolutions: lower is better, 0 for equal inputs.

    A short window resolves attacks, a long one resolves tones.

    Args:
        estimate, reference, mask, reduction, parts: as `stft_loss`.
        resolutions: window and hop in samples of each; default: 2048 and 512, 512 and 128, 128 and 32.

    Shape, Dtype, Units: as `stft_loss`.
    Raises:   as `stft_loss`; ValueError for no resolutions.
    Source:   Yamamoto, Song, Kim, "Parallel WaveGAN", ICASSP 2020, arXiv 1910.11480
    Differs:  windows as long as the transform, in steps of 4, for 44.1 kHz; theirs are 1024, 2048 and 512 with shorter
              windows, for speech at 24 kHz.
    Example:
        >>> hiss = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
        >>> round(multi_resolution_stft_loss(0.5 * hiss, hiss).item(), 3)
        1.193
    """
    for name, given in (("parts", parts), ("resolutions", resolutions)):
        if not given:
            raise ValueError(f"{name} is empty, allowed one pair or more")
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        total = pair.estimate.new_zeros(pair.estimate.shape[:-1])
        seen = torch.zeros_like(total)
        for n_fft, hop in resolutions:
            spectra = spectrogram(pair.estimate, n_fft, hop), spectrogram(pair.reference, n_fft, hop)
            frames = frames_that_count(pair.valid, hop)
            value = torch.stack([weight * part(*spectra, frames) for weight, part in parts]).sum(dim=0)
            counted = torch.ones_like(total, dtype=torch.bool) if frames is None else frames.any(dim=-1)
            total = total + torch.where(counted, value, torch.zeros_like(value))
            seen = seen + counted
        return reduce_batch(total / seen.clamp(min=1.0), reduction, seen > 0)
