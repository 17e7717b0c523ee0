"""NNDecoder: the decoder's block diagram as code, with whatever stages it is given.

quantized,idsf,idwl,bsm ─dequantizer→ spectrum ─imdct→ bands ─iqmf→ pcm
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from atrac_modules import Dequantizer, FrameBatch, Imdct, Iqmf


@dataclass(frozen=True)
class Decoded:
    """What a decoder made of sound units, with what it made on the way.

    Shape: spectrum, bands [*, F, 512], pcm [*, T]
    """

    spectrum: Tensor
    bands: Tensor
    pcm: Tensor


class NNDecoder(nn.Module):
    """Decodes the fields of sound units to PCM.

    Args:
        dequantizer, imdct, iqmf: stages, any mix of siblings.

    Shape:  FrameBatch of [*, F, …] -> pcm [*, T], T = 512 F
    Units:  full scale +-1.0, not clipped, 44.1 kHz
    """

    def __init__(self, dequantizer: Dequantizer, imdct: Imdct, iqmf: Iqmf) -> None:
        super().__init__()
        self.dequantizer = dequantizer
        self.imdct = imdct
        self.iqmf = iqmf

    def forward(self, batch: FrameBatch) -> Tensor:
        """Decode. What came before the first frame counts as silence."""
        return self.stages(batch).pcm

    def stages(self, batch: FrameBatch) -> Decoded:
        """Decode and keep what every stage made."""
        spectrum = self.dequantizer(batch.quantized, batch.idsf, batch.idwl, batch.bsm)
        bands = self.imdct(spectrum, batch.bsm)
        return Decoded(spectrum, bands, self.iqmf(bands))
