"""NNEncoder: the encoder's block diagram as code, with interchangeable stages.

pcm ─qmf→ bands ─transient→ bsm          bands,bsm ─mdct→ spectrum          spectrum,bsm ─scaler→ idsf
                                         spectrum,idsf,bsm(,loudness) ─allocator→ n_bfu, idwl, idsf
                                         spectrum,idsf,idwl,bsm ─quantizer→ quantized
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from atrac_modules import (
    Allocation,
    Allocator,
    FrameBatch,
    Loudness,
    Mdct,
    Qmf,
    Quantizer,
    ReferenceLoudness,
    Scaler,
    ShapeError,
    Transient,
)
from atrac_modules.bfu import carries


@dataclass(frozen=True)
class Encoded:
    """The result of encoding a stretch of PCM, with the results of every stage.

    Args:
        idsf: scale factor indices of all BFUs from the scaler.
        allocation: the allocator's decisions; its scale factors too are those of all BFUs.
        loudness: the loudness that the allocator used.
        loudness_end: the loudness after the last frame, at which the next stretch starts.
        batch: the fields of the sound units.

    Shape: bands, spectrum [B, C, F, 512], idsf [B, C, F, 52], loudness [B, F], loudness_end [B]
    """

    bands: Tensor
    spectrum: Tensor
    idsf: Tensor
    allocation: Allocation
    loudness: Tensor
    loudness_end: Tensor
    batch: FrameBatch


class NNEncoder(nn.Module):
    """Encodes PCM to the fields of sound units.

    Args:
        qmf, transient, mdct, scaler, allocator, quantizer: stages, any mix of reference, neural and other classes.
        loudness: tracks the loudness for allocators that use it; `ReferenceLoudness()` if None.

    Shape:  pcm [B, C, T], T = 512 F, C = 1 or 2 -> FrameBatch of [B, C, F, …]
    Units:  full scale +-1.0, 44.1 kHz
    Raises: ShapeError: pcm has another shape.
    """

    def __init__(
        self,
        qmf: Qmf,
        transient: Transient,
        mdct: Mdct,
        scaler: Scaler,
        allocator: Allocator,
        quantizer: Quantizer,
        loudness: Loudness | None = None,
    ) -> None:
        super().__init__()
        self.qmf = qmf
        self.transient = transient
        self.mdct = mdct
        self.scaler = scaler
        self.allocator = allocator
        self.quantizer = quantizer
        self.loudness = loudness or ReferenceLoudness()

    def forward(self, pcm: Tensor) -> FrameBatch:
        """Encode whole recordings."""
        return self.stages(pcm).batch

    def stages(self, pcm: Tensor, lead_frames: int = 0, loudness: Tensor | None = None) -> Encoded:
        """Encode a stretch of recordings and keep the result of every stage.

        Args:
            pcm: the stretch, with `lead_frames` frames of the same recording before it. Two are enough for all
                filters to settle; a recording's first stretch has none.
            lead_frames: frames at the start that settle the filters and are left out of the result.
            loudness: `loudness_end` of the stretch before, [B]; None at the start.
        """
        if pcm.dim() != 3 or pcm.shape[1] not in (1, 2):
            raise ShapeError("pcm", "[B, C, T] with C = 1 or 2, T = 512 F", pcm.shape)
        bands = self.qmf(pcm)
        bsm = self.transient(bands)
        spectrum = self.mdct(bands, bsm)
        bands, bsm, spectrum = (x[:, :, lead_frames:] for x in (bands, bsm, spectrum))
        track = self.loudness(spectrum, bsm, loudness)
        idsf = self.scaler(spectrum, bsm)
        chosen = self.allocator(spectrum, idsf, bsm, track.loudness[:, None].expand(bsm.shape[:-1]))
        quantized = self.quantizer(spectrum, chosen.idsf, chosen.idwl, bsm)
        batch = FrameBatch(bsm, chosen.n_bfu, chosen.idwl, chosen.idsf * carries(chosen.n_bfu), quantized)
        return Encoded(bands, spectrum, idsf, chosen, track.loudness, track.end, batch)
