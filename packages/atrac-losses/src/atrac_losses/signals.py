"""A checked pair of signals: the first step of every measure in this package.

Both signals come out in float32 or float64, with padding set to zero, so that the content of the padding (NaN
included) affects neither a value nor a gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class SignalPair:
    """Estimate and reference of one shape and one type, and which of their samples count.

    Args:
        estimate: the signal to be judged, zero where `valid` is false.
        reference: the original signal, zero where `valid` is false.
        valid: true where a sample counts; None when all of them do.

    Shape:    estimate, reference, valid [*, T]
    """

    estimate: Tensor
    reference: Tensor
    valid: Tensor | None

    @classmethod
    def of(cls, estimate: Tensor, reference: Tensor, mask: Tensor | None = None) -> "SignalPair":
        """Check two signals, raise them to float32 at least, and silence their padding.

        Args:
            estimate: the signal to be judged.
            reference: the original signal.
            mask: true, or any number but 0, where a sample counts; default: all count.

        Shape:    estimate, reference [*, T]; mask any shape that broadcasts to [*, T] and has T samples
        Dtype:    bfloat16 and float16 become float32; float32 and float64 stay, the wider of the two wins.
        Raises:   TypeError for integers and complex numbers; ValueError for shapes that differ (they are
                  never broadcast), for no samples at all, and for a mask of another length.
        Example:
            >>> pair = SignalPair.of(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 3))
            >>> pair.estimate.dtype
            torch.float32
        """
        for role, signal in (("estimate", estimate), ("reference", reference)):
            if not signal.is_floating_point():
                raise TypeError(f"{role} is {signal.dtype}, allowed real floating point")
        if estimate.shape != reference.shape:
            raise ValueError(
                f"estimate {list(estimate.shape)} and reference {list(reference.shape)} differ in shape; "
                "signals are not broadcast"
            )
        if estimate.ndim == 0 or estimate.numel() == 0:
            raise ValueError(f"signals have shape {list(estimate.shape)}, allowed [*, T] with a sample or more")
        dtype = torch.promote_types(torch.promote_types(estimate.dtype, reference.dtype), torch.float32)
        estimate, reference = estimate.to(dtype), reference.to(dtype)
        if mask is None:
            return cls(estimate, reference, None)
        valid = _expand_mask(mask, estimate.shape)
        silence = torch.zeros((), dtype=dtype, device=estimate.device)
        return cls(torch.where(valid, estimate, silence), torch.where(valid, reference, silence), valid)

    @property
    def counted(self) -> Tensor | None:
        """True [*] where a signal has a sample that counts; None when all have."""
        return None if self.valid is None else self.valid.any(dim=-1)


def cut(signal: Tensor, frame: int) -> Tensor:
    """Cut a signal into frames that lie end to end, the last one filled up with zeros.

    Shape:    [*, T] -> [*, ceil(T / frame), frame]
    Example:
        >>> cut(torch.tensor([1.0, 2.0, 3.0]), 2)
        tensor([[1., 2.],
                [3., 0.]])
    """
    filled = pad(signal, (0, -signal.shape[-1] % frame))
    return filled.reshape(*signal.shape[:-1], -1, frame)


@contextmanager
def autocast_off(like: Tensor) -> Iterator[None]:
    """Run a block at the precision of its tensors, on whatever device `like` lives.

    Args:
        like: any tensor of the computation.

    Example:
        >>> with autocast_off(torch.ones(1)):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    kind = like.device.type
    if not torch.amp.is_autocast_available(kind):
        yield
        return
    with torch.autocast(kind, enabled=False):
        yield


def _expand_mask(mask: Tensor, shape: torch.Size) -> Tensor:
    """Bring a mask to bool and to the shape of the signals."""
    fits = mask.ndim > 0 and mask.shape[-1] == shape[-1] and mask.ndim <= len(shape)
    if not fits or any(m not in (1, s) for m, s in zip(mask.shape[::-1], shape[::-1])):
        raise ValueError(
            f"mask has shape {list(mask.shape)}, allowed a shape that broadcasts to {list(shape)} "
            f"and ends in {shape[-1]}"
        )
    return (mask != 0).expand(shape)
