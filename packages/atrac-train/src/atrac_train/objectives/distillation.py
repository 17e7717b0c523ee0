"""What a search decides, taught to networks: the importances of preset `rd`, and its choice of blocks."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from atrac_codec import build_encoder
from atrac_modules import NeuralEntropyTransient, NeuralRateDistortionAllocator, RateDistortionAllocator
from atrac_train.detection import band_rates, count
from atrac_train.objective import Scores, Tensors
from atrac_train.objectives.codec import CodecFolderObjective

GAIN: Final = (-40.0, 6.0)
"""dB."""
DECIBEL: Final = 3.0103
"""10 log10(2): importances are log2 of a power."""


class DistillationObjective(CodecFolderObjective):
    """pcm -> importance of each BFU, bsm.

    loss = RMS difference of importances in bits of log2, each sound unit's mean taken off, + cross-entropy of bsm

    The teacher is preset `rd`; the codec's own filter banks feed both. A batch comes at random gains, at which the
    threshold in quiet lies elsewhere.

    Args:
        model: by role, the class of the learned stage and its constructor arguments.
        start: preset or codec folder whose other stages are kept.
    """

    fields: tuple[str, ...] = ("pcm",)
    frames: int = 32

    def __init__(self, model: dict[str, dict[str, Any]], *, start: str = "neural-stages") -> None:
        super().__init__(model, start=start, train={"transient": 1.0, "allocator": 1.0})
        encoder = self.codec.encoder
        if not isinstance(encoder.transient, NeuralEntropyTransient) or not isinstance(
            encoder.allocator, NeuralRateDistortionAllocator
        ):
            raise ValueError(
                f"model: transient {type(encoder.transient).__name__}, allocator {type(encoder.allocator).__name__}, "
                f"allowed {NeuralEntropyTransient.__name__} and {NeuralRateDistortionAllocator.__name__}"
            )
        self.teacher = build_encoder("rd").requires_grad_(False)

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        pcm = batch["pcm"].flatten(-2)
        if self.training:
            gain = torch.empty(len(pcm), 1).uniform_(*GAIN, generator=generator).to(pcm)
            pcm = pcm * 10 ** (gain / 20)
        encoder, teacher = self.codec.encoder, self.teacher
        assert isinstance(teacher.allocator, RateDistortionAllocator)
        bands = encoder.qmf(pcm)
        bsm = teacher.transient(bands)
        spectrum = encoder.mdct(bands, bsm)
        return {
            "bands": bands,
            "bsm": bsm,
            "spectrum": spectrum,
            "importance": teacher.allocator.importance(spectrum, bsm),
        }

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        error = self._error(example).square().mean().sqrt()
        transient: Any = self.codec.encoder.transient
        excess, looked_at = transient.excess(example["bands"])
        short = (example["bsm"] > 0).to(excess.dtype)
        blocks = binary_cross_entropy_with_logits(excess, short, weight=looked_at[..., None].to(excess.dtype))
        return {"loss": error + blocks, "importance": error, "blocks": blocks}

    def _error(self, example: Tensors) -> Tensor:
        """Return the difference of importances, each sound unit's mean taken off. Shape: [B, F, 52]."""
        allocator: Any = self.codec.encoder.allocator
        found: Tensor = allocator.importance(example["spectrum"], example["bsm"])
        difference = found - example["importance"]
        return difference - difference.mean(-1, keepdim=True)

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        short = example["bsm"] > 0
        found = self.codec.encoder.transient(example["bands"]) > 0
        error = self._error(example).square()
        return count(found, short) | {"error": error.sum().double(), "values": torch.tensor(error.numel()).double()}

    def scores(self, sums: Tensors) -> Scores:
        scores = {"importance, RMS error (dB)": DECIBEL * float(sums["error"] / sums["values"]) ** 0.5}
        for band, own in band_rates(sums).items():
            scores |= {f"F1 {band}": own["F1"], f"short {band}": own["positives"]}
        return scores
