"""Teachers: codecs that give every intermediate value of a recording.

`BuiltinTeacher` is this project's own reference chain; `PytracTeacher` calls the reference codec itself, where its
bindings are installed. Both give the same arrays.

Differs: pytrac's `decode_from_intermediate` leaves out quantization. Here the decoder's fields come from the sound
    unit's bytes, through `decode_frame_from_bitstream`, so `dec_spectrum` is what a player dequantizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray

from atrac_bitstream.tables import (
    BFU_AMOUNTS,
    BFU_BANDS,
    BFU_OFFSETS,
    BFU_SIZES,
    BFU_STARTS_SHORT,
    BSM_SHORT,
    FRAME_SAMPLES,
    WORD_LENGTHS,
)
from atrac_codec import build_decoder, build_encoder
from atrac_codec.outside import load_pytrac
from atrac_codec.trace import Tracer
from atrac_data.fields import FIELDS, Frames
from atrac_modules.bfu import BfuLayout


class Teacher(Protocol):
    """Encodes and decodes recordings and gives the fields of both."""

    @property
    def name(self) -> str:
        """Name in reports and shards."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields it gives, of `FIELDS`."""

    def frames(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[Frames]:
        """Encode and decode one recording, chunk by chunk, and yield all fields of each chunk.

        Args:
            chunks: its samples, in pieces of whole frames. How they are cut makes no difference.

        Shape: chunks [C, 512 F] each -> [C, F, *shape] for each field
        Raises:
            ValueError: a chunk is not [C, 512 F], or has another number of channels than the first.
        """


@final
class BuiltinTeacher:
    """The reference chain of this project, with intermediates.

    Args:
        preset: encoder; `bitexact` equals pytrac. With others, how a recording is cut into chunks may move a value by
            a rounding.
        decoder: decoder; the same holds.

    Example:
        >>> teacher = BuiltinTeacher()
        >>> (first,) = teacher.frames([np.zeros((2, 1024), np.float32)])
        >>> first["spectrum"].shape, first["n_bfu"].tolist()
        ((2, 2, 512), [[44, 20], [44, 20]])
    """

    def __init__(self, preset: str = "bitexact", decoder: str = "bitexact") -> None:
        self._encoder, self._decoder = build_encoder(preset), build_decoder(decoder)
        self._layout = BfuLayout()
        self.name = f"builtin {preset}, {decoder}"
        self.fields = tuple(FIELDS)

    def frames(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[Frames]:
        """Encode and decode; see `Teacher`."""
        tracer = Tracer(self._encoder, self._decoder)
        for chunk in _checked(chunks):
            traced = tracer.push(torch.from_numpy(chunk)).own
            spectrum, bsm = traced["spectrum"], traced["bsm"]
            # Word lengths 0 and 2 .. 16 bits have 0 and 1 .. 32767 levels on either side of zero.
            levels = (1 << torch.from_numpy(WORD_LENGTHS)[traced["idwl"].long()].clamp(min=1) - 1) - 1
            levels = self._layout.expand(levels.float(), bsm)
            error = traced["scaled"] - traced["quantized"] / levels.clamp(min=1.0)
            traced["max_energy"] = self._layout.maximum(spectrum.square(), bsm)
            traced["quantization_error"] = error * (levels > 0)
            yield {name: traced[name].numpy().astype(FIELDS[name].dtype) for name in self.fields}


@final
class PytracTeacher:
    """The reference codec, through its bindings, which do not give `loudness`.

    Raises:
        ImportError: pytrac is not installed, or is another library of that name; the message names the right one.
    """

    def __init__(self) -> None:
        self._pytrac = load_pytrac()
        self.name = "pytrac"
        self.fields = tuple(name for name, field in FIELDS.items() if field.pytrac)

    def frames(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[Frames]:
        """Encode and decode; see `Teacher`."""
        encoder: Any = None
        for chunk in _checked(chunks):
            if encoder is None:
                encoder, decoder = self._pytrac.FrameProcessor(len(chunk)), self._pytrac.FrameDecoder(len(chunk))
            rows: dict[str, list[Any]] = {name: [] for name in self.fields}
            for start in range(0, chunk.shape[1], FRAME_SAMPLES):
                frame = np.ascontiguousarray(chunk[:, start : start + FRAME_SAMPLES])
                for name, row in pytrac_frame(encoder, decoder, frame).items():
                    rows[name].append(row)
            yield {
                name: np.array(row, FIELDS[name].dtype).swapaxes(0, 1).reshape(len(chunk), -1, *FIELDS[name].shape)
                for name, row in rows.items()
            }


def pytrac_frame(encoder: Any, decoder: Any, frame: NDArray[np.float32]) -> dict[str, list[Any]]:
    """Code one frame [C, 512] with pytrac's stateful encoder and decoder; return each field, by channel.

    Its values come to the places that they have here: those of a BFU to where they stand in the spectrum, the decoder's
    mid and high blocks reversed back.
    """
    e = encoder.process_frame(frame)
    # A byte comes as an int or as a character, by the version of the bindings.
    units = [bytes((ord(b) if isinstance(b, str) else b) & 255 for b in u) for u in e.compressed_data_per_channel]
    d = decoder.decode_frame_from_bitstream(units)
    channels = range(len(units))
    bsm = [[short * (mask >> band & 1) for band, short in enumerate(BSM_SHORT)] for mask in e.window_mask]
    blocks = e.scaled_blocks
    return {
        "pcm": list(e.pcm_input),
        "bands": [[*e.qmf_low[c], *e.qmf_mid[c], *e.qmf_hi[c]] for c in channels],
        "bsm": bsm,
        "spectrum": list(e.mdct_specs),
        "max_energy": [[block.max_energy for block in blocks[c]] for c in channels],
        "idsf": [[block.scale_factor_index for block in blocks[c]] for c in channels],
        "scaled": [_in_spectrum([block.values for block in blocks[c]], bsm[c]) for c in channels],
        "n_bfu": [BFU_AMOUNTS[index] for index in e.bfu_amount_table_idx_used],
        "idwl": [[max(bits - 1, 0) for bits in e.bits_per_bfu[c]] for c in channels],
        "quantized": [_in_spectrum(e.quantized_values[c], bsm[c]) for c in channels],
        "quantization_error": [_in_spectrum(e.quantization_error[c], bsm[c]) for c in channels],
        "units": [np.frombuffer(unit, np.uint8) for unit in units],
        "dec_spectrum": [_reversed_back(d.mdct_specs[c], bsm[c]) for c in channels],
        "dec_bands": [[*d.qmf_low[c], *d.qmf_mid[c], *d.qmf_hi[c]] for c in channels],
        "dec_pcm": list(d.pcm_output),
    }


def _in_spectrum(values: list[Any], bsm: list[int]) -> NDArray[np.float64]:
    """Put the values of each BFU where they stand in the spectrum. Shape: [512]."""
    out = np.zeros(FRAME_SAMPLES)
    for bfu, own in enumerate(values):
        if len(own):
            start = (BFU_STARTS_SHORT if bsm[BFU_BANDS[bfu]] else BFU_OFFSETS)[bfu]
            out[start : start + BFU_SIZES[bfu]] = own
    return out


def _reversed_back(spectrum: list[float], bsm: list[int]) -> NDArray[np.float32]:
    """Undo what pytrac's decoder does in place: it reverses the blocks of mid and high. Shape: [512]."""
    out = np.array(spectrum, np.float32)
    for band, own in ((1, slice(128, 256)), (2, slice(256, 512))):
        block = 32 if bsm[band] else own.stop - own.start
        out[own] = out[own].reshape(-1, block)[:, ::-1].reshape(-1)
    return out


def _checked(chunks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    channels = None
    for chunk in chunks:
        fits = chunk.ndim == 2 and chunk.shape[1] % FRAME_SAMPLES == 0 and len(chunk) in (1, 2)
        if not fits or len(chunk) != (channels or len(chunk)):
            raise ValueError(f"chunk is {list(chunk.shape)}, expected [{channels or '1 or 2'}, 512 F]")
        channels = len(chunk)
        if chunk.shape[1]:
            yield np.require(chunk, np.float32, ["C", "W"])
