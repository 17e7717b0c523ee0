"""NNDecoder: the decoder's block diagram as code, with interchangeable stages.

quantized,idsf,idwl,bsm ─dequantizer→ spectrum ─imdct→ bands ─iqmf→ pcm
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from atrac_modules import Dequantizer, FrameBatch, Imdct, Iqmf


@dataclass(frozen=True)
class Decoded:
    """The result of decoding sound units, with the results of every stage.

    Shape: spectrum, bands [*, F, 512], pcm [*, T]
    """

    spectrum: Tensor
    bands: Tensor
    pcm: Tensor


class NNDecoder(nn.Module):
    """Decodes the fields of sound units to PCM.

    Args:
        dequantizer, imdct, iqmf: stages, any mix of reference, neural and other classes.

    Shape:  FrameBatch of [*, F, …] -> pcm [*, T], T = 512 F
    Units:  full scale +-1.0, not clipped, 44.1 kHz
    """

    def __init__(self, dequantizer: Dequantizer, imdct: Imdct, iqmf: Iqmf) -> None:
        super().__init__()
        self.dequantizer = dequantizer
        self.imdct = imdct
        self.iqmf = iqmf

    def forward(self, batch: FrameBatch) -> Tensor:
        """Decode, as if silence came before the first frame."""
        return self.stages(batch).pcm

    def stages(self, batch: FrameBatch) -> Decoded:
        """Decode and keep the result of every stage."""
        spectrum = self.dequantizer(batch.quantized, batch.idsf, batch.idwl, batch.bsm)
        bands = self.imdct(spectrum, batch.bsm)
        return Decoded(spectrum, bands, self.iqmf(bands))
