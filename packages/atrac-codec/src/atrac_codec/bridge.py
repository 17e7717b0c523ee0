"""The bridge between tensors and bytes: FrameBatch to sound units and AEA files, and back.

    FrameBatch ─ neural_outputs_to_atrac_params → UnitArrays ─ pack_units → sound units ─ AeaWriter → file
    FrameBatch ← atrac_params_to_neural_outputs ─ UnitArrays ← unpack_units ─ sound units ← AeaReader ─ file

The only place that converts one into the other. Numbers that are not whole, or do not fit their field, are refused.
"""

from __future__ import annotations

import io
import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atrac_bitstream import AeaError, AeaReader, AeaWriter, SoundUnitError, UnitArrays, pack_units, unpack_units
from atrac_modules import FrameBatch


def neural_outputs_to_atrac_params(batch: FrameBatch) -> UnitArrays:
    """Turn the tensors of an encoder, on any device, with or without gradients, into the integers of sound units.

    Shape:  FrameBatch of [*, F, …] -> UnitArrays of [*, F, …], int32
    Raises:
        SoundUnitError: a number is not whole. Ranges are checked when the integers are packed.

    Example:
        >>> sizes = ((1, 3), (1,), (1, 52), (1, 52), (1, 512))
        >>> neural_outputs_to_atrac_params(FrameBatch(*map(torch.ones, sizes))).n_bfu
        array([1], dtype=int32)
    """
    return UnitArrays(*(_whole_numbers(name, getattr(batch, name)) for name in UnitArrays._fields))


def atrac_params_to_neural_outputs(params: UnitArrays, device: torch.device | str | None = None) -> FrameBatch:
    """Turn the integers of sound units into tensors, for a decoder or as targets of training.

    Args:
        params: integers, as `unpack_units` returns them.
        device: device of the tensors; None is torch's default.

    Shape: UnitArrays of [*, F, …] -> FrameBatch of [*, F, …], float32
    """
    return FrameBatch(*(torch.as_tensor(field, device=device).float() for field in params))


def to_units(batch: FrameBatch) -> NDArray[np.uint8]:
    """Pack a batch into sound units.

    Shape:  FrameBatch of [*, F, …] -> [*, F, 212]
    Raises:
        SoundUnitError: a number is not whole or out of its range.
    """
    return pack_units(*neural_outputs_to_atrac_params(batch))


def from_units(units: NDArray[np.uint8], first: int = 0) -> FrameBatch:
    """Unpack sound units into a batch of float32 tensors.

    Args:
        units: sound units as bytes.
        first: index of the first frame, for messages.

    Shape:  [*, F, 212] -> FrameBatch of [*, F, …]
    Raises:
        SoundUnitError: as `unpack_units`.
    """
    return atrac_params_to_neural_outputs(unpack_units(units, first))


def to_aea(batch: FrameBatch, samples: int | None = None, title: str = "") -> bytes:
    """Write one recording as an AEA file.

    Args:
        batch: FrameBatch of [C, F, …].
        samples: PCM samples per channel that were encoded, for the length tag; None writes no tag.
        title: see `AeaHeader.make`.
    """
    units = to_units(batch)
    file = io.BytesIO()
    with AeaWriter(file, channels=units.shape[0], title=title) as writer:
        writer.samples = samples
        writer.write(units.swapaxes(0, 1))
    return file.getvalue()


def from_aea(data: bytes) -> tuple[FrameBatch, int | None]:
    """Read an AEA file: a FrameBatch of [C, F, …], and the samples per channel if it has a length tag.

    Raises:
        AtracError: the data is not an AEA file, has no sound units, or a sound unit is damaged.
    """
    with AeaReader(io.BytesIO(data)) as reader:
        if not len(units := reader.read()):
            raise AeaError("no sound units")
        return from_units(units).map(lambda f: f.transpose(0, 1)), reader.header.samples


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's weights or tables."""
    return next(itertools.chain(module.parameters(), module.buffers())).device


def _whole_numbers(name: str, field: Tensor) -> NDArray[np.int32]:
    values = field.detach()
    if values.is_floating_point():
        wrong = (values != values.round()) | values.isinf()  # NaN differs from itself
        if wrong.any():
            place = wrong.nonzero()[0].tolist()
            raise SoundUnitError(f"{name}{place} = {values[tuple(place)].item()}, allowed whole numbers")
    return values.to(torch.int32).cpu().numpy()
