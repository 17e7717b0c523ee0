"""Pre-echo: error before an attack.

A transform coder spreads its error evenly over a block. Where the block begins in quiet and ends in an attack, the
attack does not mask the error before it. This measure looks at that part alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from atrac_losses.reduction import Reduction, masked_mean, reduce_batch
from atrac_losses.signals import SignalPair, autocast_off, cut

FLOOR_DB = -100.0
"""Value for equal signals with an onset."""


def pre_echo(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    block: int = 64,
    before: int = 1024,
    rise: float = 10.0,
    silence: float = -60.0,
    floor: float = -60.0,
    emphasis: float = 0.95,
) -> Tensor:
    """Measure the error before onsets: lower is better, -100 dB for equal inputs.

    y[n] = x[n] - emphasis * x[n - 1]               of error and reference, so that bass hides no attack
    energy[b] = sum of y ** 2 over block b          blocks lie end to end
    attack[b] = max(energy_reference[b], energy_reference[b + 1])
    b is an onset when  attack[b] >= 10 ** (rise / 10) * energy_reference[any of the blocks before]
                  and   attack[b] / block >= 10 ** (silence / 10)
                  and   b - 1 is none by these two
    bare = sum over the blocks before of energy_error
           / sum over the blocks before of (energy_reference + 10 ** (floor / 10) * attack[b])
    pre_echo = 10 log10(mean over onsets of bare + 1e-10)

    "The blocks before" are those of the `before` samples before block b, fewer at the beginning and after padding; with
    none, there is no onset. The block after b is examined as well, so that an attack is found wherever in a block
    it begins; the blocks examined for error end before the attack, by less than two blocks.

    Onsets are found on the reference, so they do not depend on the estimate. At 0 dB there is as much error as there
    was sound (or as the floor allows), at +20 dB a hundred times as much. The mean is one of energies: one bad pre-echo
    is not compensated by many good ones. A signal without an onset is left out of mean and sum, and reads 0 under
    "none".

    Args:
        estimate: the signal to be judged.
        reference: the original signal.
        mask: true, or any number but 0, where a sample counts; default: all count.
        reduction: "mean", "sum" or "none" over the batch.
        block: samples in a block, default 64 (1.5 ms at 44.1 kHz): how exactly onsets are placed.
        before: samples looked at before an onset, a multiple of block, default 1024 (23 ms); fewer look at what comes
            shortly before alone.
        rise: dB that an onset stands above all blocks before it, default 10; higher looks at hard attacks only.
        silence: dBFS of emphasised power below which nothing is an onset, default -60.
        floor: dB re the onset that is allowed after silence, default -60; higher forgives more.
        emphasis: 0 to 1, default 0.95: bass 26 dB down, half the sampling rate 6 dB up; 0 leaves the spectrum as it is.

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    any real floating point; computed in float32 at least, also under autocast.
    Units:    dB of power
    Raises:   TypeError and ValueError as `SignalPair.of` and `reduce_batch` do; ValueError for block below 1, before
              that is no multiple of it, rise below 0 and emphasis outside 0 to 1.
    Source:   our own definition
    Example:
        >>> attack = torch.cat([torch.zeros(2048), torch.ones(2048)]) * torch.cos(0.9 * torch.arange(4096))
        >>> early, late = torch.zeros(4096), torch.zeros(4096)
        >>> early[1500:1600] = 0.01
        >>> late[2500:2600] = 0.01
        >>> round(pre_echo(attack + early, attack).item()), round(pre_echo(attack + late, attack).item())
        (-2, -100)
    """
    if block < 1:
        raise ValueError(f"block = {block} samples, allowed 1 or more")
    if before < block or before % block:
        raise ValueError(f"before = {before} samples, allowed a multiple of block = {block}")
    if rise < 0:
        raise ValueError(f"rise = {rise} dB, allowed 0 or more")
    if not 0 <= emphasis <= 1:
        raise ValueError(f"emphasis = {emphasis}, allowed 0 to 1")
    pair = SignalPair.of(estimate, reference, mask)
    with autocast_off(pair.estimate):
        error, sound = (
            cut(_emphasise(x, pair.valid, emphasis), block).square().sum(dim=-1)
            for x in (pair.estimate - pair.reference, pair.reference)
        )
        whole = torch.ones_like(sound, dtype=torch.bool) if pair.valid is None else cut(pair.valid, block).all(dim=-1)
        past, quiet, wrong = (_blocks_before(x, before // block) for x in (whole, sound, error))

        attack = torch.maximum(sound, F.pad(sound[..., 1:], (0, 1)))
        loud = attack >= block * 10.0 ** (silence / 10.0)
        risen = attack >= 10.0 ** (rise / 10.0) * quiet.amax(dim=-1)
        stands_out = loud & risen & past[..., -1]
        onset = stands_out & ~F.pad(stands_out[..., :-1], (1, 0))
        allowed = quiet.sum(dim=-1) + 10.0 ** (floor / 10.0) * past.sum(dim=-1).to(sound) * attack
        bare = masked_mean(wrong.sum(dim=-1) / torch.where(onset, allowed, torch.ones_like(allowed)), onset)
        return reduce_batch(10.0 * torch.log10(bare + 10.0 ** (FLOOR_DB / 10.0)), reduction, onset.any(dim=-1))


def _emphasise(signal: Tensor, valid: Tensor | None, emphasis: float) -> Tensor:
    """Take a share of the sample before off each sample, [*, T]; padding stays silent."""
    raised = signal - emphasis * F.pad(signal[..., :-1], (1, 0))
    return raised if valid is None else torch.where(valid, raised, torch.zeros_like(raised))


def _blocks_before(values: Tensor, n: int) -> Tensor:
    """Return the values of the n blocks before each block, 0 before the first, [*, blocks] -> [*, blocks, n]."""
    return F.pad(values, (n, 0)).unfold(-1, n + 1, 1)[..., :-1]
