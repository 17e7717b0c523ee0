"""Two measures of speech by third-party packages: intelligibility (STOI) and quality on a telephone (PESQ).

They need the extra: `pip install atrac-losses[speech]`. They run on the CPU, one signal after another, and have no
gradient, so they cannot be trained on. Neither says much about music.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from atrac_losses.reduction import Reduction, check_reduction, reduce_batch
from atrac_losses.signals import SignalPair

LOWEST_PESQ = 1.0
"""The end of the scale: the grade of an estimate without any speech where the reference has some."""


def stoi(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    sample_rate: int = 44100,
    extended: bool = False,
) -> Tensor:
    """Predict the intelligibility of speech: higher is better, 1 for equal inputs. No gradient.

    It is resampled to 10 kHz inside, and pauses of the reference are taken out. A signal with less than 0.4 s of sound
    is left out of mean and sum, and reads 0 under "none".

    Args:
        estimate: the signal to be judged.
        reference: the clean speech.
        mask: true, or any number but 0, where a sample counts; default: all count. What does not is cut out.
        reduction: "mean", "sum" or "none" over the batch.
        sample_rate: Hz, default 44100.
        extended: the variant for noise that comes and goes, default off.

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    any real floating point; computed in float64, given in float32 at least.
    Units:    mean correlation, about 0 to 1
    Raises:   TypeError and ValueError as `SignalPair.of` and `reduce_batch` do; ValueError for a sampling rate that is
              no positive whole number; ImportError without the package pystoi.
    Source:   Taal, Hendriks, Heusdens, Jensen, "An algorithm for intelligibility prediction of time-frequency weighted
              noisy speech", IEEE Trans. Audio, Speech, Language Processing 19 (7), 2011, by pystoi
    """
    check_reduction(reduction)
    if sample_rate < 1 or sample_rate != int(sample_rate):
        raise ValueError(f"sample_rate = {sample_rate} Hz, allowed positive whole numbers")
    judge = _needed("pystoi").stoi

    def score(e: Any, r: Any) -> float | None:
        if len(r) * 10_000 < 4_000 * sample_rate or not r.any():
            return None
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            try:
                return float(judge(r, e, int(sample_rate), extended=extended))
            except RuntimeWarning:
                return None

    return _each(score, SignalPair.of(estimate, reference, mask), reduction)


def pesq(
    estimate: Tensor,
    reference: Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    *,
    sample_rate: int = 16000,
    band: Literal["wide", "narrow"] = "wide",
) -> Tensor:
    """Predict how listeners would grade speech on a telephone: higher is better, about 1 to 4.6. No gradient.

    Level and constant delay do not matter. A signal under 0.25 s, or whose reference holds no speech, is left out of
    mean and sum, and reads 0 under "none"; an estimate without speech is at 1 then.

    Args:
        estimate: the signal to be judged.
        reference: the clean speech.
        mask: true, or any number but 0, where a sample counts; default: all count. What does not is cut out.
        reduction: "mean", "sum" or "none" over the batch.
        sample_rate: Hz, 16000 or 8000; nothing is resampled here, so sound at another rate must be resampled first.
        band: "wide" (50 to 7000 Hz, at 16000 Hz only) or "narrow" (the telephone's), default "wide".

    Shape:    estimate, reference, mask [*, T] -> [] or, with "none", [*]
    Dtype:    any real floating point; computed in float32, given in float32 at least.
    Units:    mean opinion score (MOS-LQO)
    Raises:   TypeError and ValueError as `SignalPair.of` and `reduce_batch` do; ValueError for another rate or band;
              ImportError without the package pesq.
    Source:   ITU-T P.862 and P.862.2, by the package pesq
    """
    check_reduction(reduction)
    if band not in ("wide", "narrow"):
        raise ValueError(f"band = {band!r}, allowed 'wide', 'narrow'")
    rates = (16000,) if band == "wide" else (8000, 16000)
    if sample_rate not in rates:
        allowed = " or ".join(map(str, rates))
        raise ValueError(f"sample_rate = {sample_rate} Hz, allowed {allowed} Hz for {band} band; resample first")
    package = _needed("pesq")

    def judge(e: Any, r: Any) -> float | None:
        if not (e.any() and r.any()):
            return None
        try:
            return float(package.pesq(int(sample_rate), r, e, mode="wb" if band == "wide" else "nb"))
        except package.NoUtterancesError:
            return None

    def score(e: Any, r: Any) -> float | None:
        if len(r) * 4 < sample_rate:
            return None
        grade = judge(e, r)
        return LOWEST_PESQ if grade is None and judge(r, r) is not None else grade

    return _each(score, SignalPair.of(estimate, reference, mask), reduction)


def _needed(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"the package {name} is missing: pip install atrac-losses[speech]", name=name) from error


def _each(score: Callable[[Any, Any], float | None], pair: SignalPair, reduction: Reduction) -> Tensor:
    """Score every signal of a batch as NumPy arrays in float64, without its padding; None is left out."""
    length = pair.reference.shape[-1]
    estimates, references = (x.detach().double().cpu().reshape(-1, length) for x in (pair.estimate, pair.reference))
    kept = torch.ones_like(references, dtype=torch.bool) if pair.valid is None else pair.valid.cpu().reshape(-1, length)
    scores = [score(e[k].numpy(), r[k].numpy()) for e, r, k in zip(estimates, references, kept)]
    shape, like = pair.reference.shape[:-1], pair.reference.detach()
    values = like.new_tensor([0.0 if s is None else s for s in scores]).reshape(shape)
    counted = torch.tensor([s is not None for s in scores], device=like.device).reshape(shape)
    return reduce_batch(values, reduction, counted)
