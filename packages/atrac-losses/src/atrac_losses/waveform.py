"""Measures on the waveform: squared and absolute error, and the family of signal-to-noise ratios.

Signs. The functions `snr`, `si_sdr` and `segmental_snr` return decibels, higher is better. The modules `Snr`,
`SiSdr` and `SegmentalSnr` return the negative, a loss to minimise. `mse` and `l1` and their modules are the
same number: lower is better.

Ratios are held within +-120 dB (`LIMIT_DB`), smoothly and whatever the level, which keeps values and
gradients finite for equal inputs and for silence; two silent signals are at 0 dB.
"""

import torch
from torch import Tensor

from atrac_losses.reduction import Reduction, masked_mean, reduce_batch, reduce_frames
from atrac_losses.signals import SignalPair, autocast_off, cut

LIMIT_DB = 120.0
"""Largest magnitude of a ratio in dB: a little below the 144 dB that float32 PCM can hold."""

TINY_POWER = 1e-18
"""Power (-180 dBFS) that counts as silence; its square is still a normal float32, as backward passes need."""


def mse(estimate: Tensor, reference: Tensor, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """Average the squared error over time.

    mse = mean((estimate - reference) ** 2)

    Args:
        estimate: the signal to be judged.
        reference: the original signal.
        mask: true, or any number but 0, where a sample counts; default: all count.
        reduction: "mean", "sum" or "none" over the batch.

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    any real floating point; computed in float32 at least, also under autocast.
    Units:    power, full scale +-1.0
    Raises:   TypeError and ValueError as `SignalPair.of` and `reduce_batch` do.
    Example:
        >>> mse(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5]))
        tensor(0.1250)
    """
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        values = masked_mean((pair.estimate - pair.reference).square(), pair.valid)
        return reduce_batch(values, reduction, pair.counted)


def l1(estimate: Tensor, reference: Tensor, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """Average the absolute error over time.

    l1 = mean(|estimate - reference|)

    Args, Shape, Dtype, Raises: as `mse`.
    Units:    amplitude, full scale +-1.0
    Example:
        >>> l1(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5]))
        tensor(0.2500)
    """
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        values = masked_mean((pair.estimate - pair.reference).abs(), pair.valid)
        return reduce_batch(values, reduction, pair.counted)


def snr(estimate: Tensor, reference: Tensor, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """Compare the power of the reference with the power of the error: higher is better.

    snr = 10 log10(mean(reference ** 2) / mean((reference - estimate) ** 2)), held within +-120 dB

    Args, Shape, Dtype, Raises: as `mse`.
    Units:    dB of power
    Example:
        >>> round(snr(torch.tensor([0.9, -0.9]), torch.tensor([1.0, -1.0])).item(), 3)
        20.0
    """
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        signal = masked_mean(pair.reference.square(), pair.valid)
        noise = masked_mean((pair.reference - pair.estimate).square(), pair.valid)
        return reduce_batch(ratio_db(signal, noise), reduction, pair.counted)


def si_sdr(estimate: Tensor, reference: Tensor, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """Compare reference and error after the reference took its best gain: higher is better.

    target = reference * mean(estimate * reference) / mean(reference ** 2)
    si_sdr = 10 log10(mean(target ** 2) / mean((estimate - target) ** 2)), held within +-120 dB

    The level and the polarity of the estimate do not matter. No mean is removed first. A silent estimate is
    at 0 dB.

    Args, Shape, Dtype, Raises: as `mse`.
    Units:    dB of power
    Source:   Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019,
              arXiv 1811.02508
    Example:
        >>> clean = torch.tensor([1.0, -1.0, 1.0, -1.0])
        >>> noise = torch.tensor([0.1, 0.1, -0.1, -0.1])
        >>> round(si_sdr(3.0 * (clean + noise), clean).item(), 3)
        20.0
    """
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        common = masked_mean(pair.estimate * pair.reference, pair.valid)
        gain = common / (masked_mean(pair.reference.square(), pair.valid) + TINY_POWER)
        target = gain.unsqueeze(-1) * pair.reference
        signal = masked_mean(target.square(), pair.valid)
        noise = masked_mean((pair.estimate - target).square(), pair.valid)
        return reduce_batch(ratio_db(signal, noise), reduction, pair.counted)


def segmental_snr(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    frame: int = 512,
    lowest: float = -10.0,
    highest: float = 80.0,
    silence: float = -80.0,
) -> Tensor:
    """Average the signal-to-noise ratio of short frames: higher is better.

    A quiet passage weighs as much as a loud one.

    segmental_snr = mean over frames of clamp(snr(frame), lowest, highest)

    Frames lie end to end; the last one may be shorter and weighs as much. A frame counts when a sample of it
    counts and its reference is not silent. A signal without such a frame is left out of mean and sum, and
    reads 0 under "none". A frame beyond the clamp has no gradient.

    Args:
        estimate: the signal to be judged.
        reference: the original signal.
        mask: true, or any number but 0, where a sample counts; default: all count.
        reduction: "mean", "sum" or "none" over the batch.
        frame: samples in a frame, default 512; shorter looks closer at what precedes an attack.
        lowest: dB that a frame counts at least, default -10; lower lets one bad frame weigh more.
        highest: dB that a frame counts at most, default 80; lower lets near-perfect frames weigh less.
        silence: dBFS of power below which a frame of the reference is left out, default -80.

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    as `mse`.
    Units:    dB of power; dBFS: mean square over 1.0, so a full-scale sine has -3
    Raises:   as `mse`; ValueError for a frame below 1 and for lowest not below highest.
    Source:   Hansen and Pellom, "An effective quality evaluation protocol for speech enhancement algorithms",
              ICSLP 1998
    Differs:  they clamp to -10..35 dB, where most of what a codec changes would be cut off.
    Example:
        >>> loud_then_quiet = torch.cat([torch.ones(512), 0.01 * torch.ones(512)])
        >>> round(segmental_snr(0.9 * loud_then_quiet, loud_then_quiet).item(), 3)
        20.0
    """
    if frame < 1:
        raise ValueError(f"frame = {frame} samples, allowed 1 or more")
    if not lowest < highest:
        raise ValueError(f"lowest = {lowest} dB is not below highest = {highest} dB")
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        return reduce_frames(*segment_ratios(pair, frame, lowest, highest, silence), reduction)


def segment_ratios(
    pair: SignalPair, frame: int = 512, lowest: float = -10.0, highest: float = 80.0, silence: float = -80.0
) -> tuple[Tensor, Tensor]:
    """Measure the signal-to-noise ratio of each frame of `segmental_snr`, and tell which frames count.

    Args:
        pair: the two signals.
        frame, lowest, highest, silence: as `segmental_snr`.

    Shape:    [*, T] -> ratios, counted [*, ceil(T / frame)]
    Units:    dB of power
    """
    valid = torch.ones_like(pair.reference, dtype=torch.bool) if pair.valid is None else pair.valid
    inside, reference_frames = cut(valid, frame), cut(pair.reference, frame)
    signal = masked_mean(reference_frames.square(), inside)
    noise = masked_mean((reference_frames - cut(pair.estimate, frame)).square(), inside)
    counted = inside.any(dim=-1) & (signal >= 10.0 ** (silence / 10.0))
    return ratio_db(signal, noise).clamp(lowest, highest), counted


def ratio_db(signal: Tensor, noise: Tensor) -> Tensor:
    """Ratio of two powers in dB, held within +-LIMIT_DB.

    Each power gets a share of the other, so the limit does not depend on level. The difference of two
    logarithms, and not the logarithm of a quotient: the backward pass of a quotient squares its denominator.
    """
    share = 10.0 ** (-LIMIT_DB / 10.0)
    over = torch.log10(signal + share * noise + TINY_POWER)
    under = torch.log10(noise + share * signal + TINY_POWER)
    return 10.0 * (over - under)
