"""Filter banks and lapped transforms: linear maps, learned from white noise until float32 rounds them.

White noise excites all directions alike. Music does not, and taps learned from it alone stay 50 dB off.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from atrac_bitstream.tables import BANDS, BSM_SHORT
from atrac_modules import (
    BitExactImdct,
    BitExactIqmf,
    BitExactMdct,
    BitExactQmf,
    NeuralImdct,
    NeuralIqmf,
    NeuralMdct,
    NeuralQmf,
    Stage,
)
from atrac_train.objective import Objective, Scores, Tensors

LEAD: Final = 1
"""Frames at the start of an item that only serve the filters."""
LEVEL: Final = 0.1
"""Root mean square of the white noise of evaluation."""


class _LinearObjective(Objective):
    """A linear stage, by the energy of its error in each band, as a share of the energy that ought to be there.

    Training takes what `_training` makes of ground truth. Evaluation looks at ground truth as it was extracted
    (`recordings`) and at white noise that the teacher answers on the spot (`noise`).
    """

    frames: int = 16
    teacher: Stage
    stage: Stage

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        if self.training:
            return self._training(batch, generator)
        inputs, target = self._stored(batch)
        noise = LEVEL * torch.randn(inputs[0].shape, generator=generator).to(inputs[0])
        drawn = (noise, *(_draw_modes(mode.shape, generator).to(mode) for mode in inputs[1:]))
        example = {"target": target, "noise_target": self.teacher(*drawn)}
        example |= {f"input{i}": x for i, x in enumerate(inputs)}
        return example | {f"noise_input{i}": x for i, x in enumerate(drawn)}

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        energies = [(energy, error) for _, energy, error in self._energies(example, "") if energy > 0]
        if not energies:  # silence
            return {"loss": 0 * torch.stack([error for _, _, error in self._energies(example, "")]).sum()}
        shares = torch.stack([error / energy for energy, error in energies])
        return {"loss": 10 * shares.clamp_min(1e-20).log10().mean()}

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        sums = {}
        for prefix, source in (("", "recordings"), ("noise_", "noise")):
            for name, energy, error in self._energies(example, prefix):
                sums[f"{source} {name} energy"] = energy
                sums[f"{source} {name} error"] = error
        return sums

    def scores(self, sums: Tensors) -> Scores:
        scores = {}
        for source in ("recordings", "noise"):
            kinds = [name.removesuffix(" energy") for name in sums if name.startswith(source) and "energy" in name]
            totals = [torch.stack([sums[f"{kind} {what}"] for kind in kinds]).sum() for what in ("energy", "error")]
            scores[f"SNR {source} (dB)"] = _decibel(*totals)
            heard = [kind for kind in kinds if sums[f"{kind} energy"] > 0]
            scores |= {f"SNR {kind} (dB)": _decibel(sums[f"{kind} energy"], sums[f"{kind} error"]) for kind in heard}
        return scores

    def _training(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        raise NotImplementedError

    def _stored(self, batch: Tensors) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return inputs and answer as they were extracted."""
        raise NotImplementedError

    def _energies(self, example: Tensors, prefix: str) -> list[tuple[str, Tensor, Tensor]]:
        """Return energy and energy of the error of each part of the result, by name, float64 in evaluation."""
        inputs = [example[key] for key in sorted(example) if key.startswith(f"{prefix}input")]
        target = example[f"{prefix}target"]
        error = self.stage(*inputs) - target
        if not self.training:
            error, target = error.double(), target.double()
        return [(name, target[part].square().sum(), error[part].square().sum()) for name, part in self._parts(inputs)]

    def _parts(self, inputs: list[Tensor]) -> list[tuple[str, Any]]:
        """Return which part of the result, without its lead, has a number of its own."""
        return [(name, (..., slice(LEAD, None), own)) for name, own in zip(("low", "mid", "high"), BANDS, strict=True)]


def _draw_modes(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw block size modes, long or short with equal chances. Shape: [*, 3]."""
    return torch.randint(2, shape, generator=generator) * torch.tensor(BSM_SHORT)


def _decibel(energy: Tensor, error: Tensor) -> float:
    return float(10 * torch.log10(energy / error))


class QmfObjective(_LinearObjective):
    """pcm -> bands."""

    fields = ("pcm", "bands")

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.stage, self.teacher = NeuralQmf(**model), BitExactQmf()

    def _training(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        return {"input0": batch["pcm"].flatten(-2), "target": batch["bands"]}

    def _stored(self, batch: Tensors) -> tuple[tuple[Tensor, ...], Tensor]:
        return (batch["pcm"].flatten(-2),), batch["bands"]


class IqmfObjective(_LinearObjective):
    """bands -> pcm.

    The bands of a decoder have holes where there were no bits; those that the encoder made of the same noise have not,
    so the teacher answers these.
    """

    fields = ("bands", "dec_bands", "dec_pcm")

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.stage, self.teacher = NeuralIqmf(**model), BitExactIqmf()

    def _training(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        return {"input0": batch["bands"], "target": self.teacher(batch["bands"])}

    def _stored(self, batch: Tensors) -> tuple[tuple[Tensor, ...], Tensor]:
        return (batch["dec_bands"],), batch["dec_pcm"].flatten(-2)

    def _parts(self, inputs: list[Tensor]) -> list[tuple[str, Any]]:
        return [("pcm", (..., slice(512 * LEAD, None)))]


class _LappedObjective(_LinearObjective):
    """Recordings seldom switch, so training and noise take modes that are drawn, half of them short."""

    def _parts(self, inputs: list[Tensor]) -> list[tuple[str, Any]]:
        """Tell frames by their own mode and that of the frame before, over all bands."""
        short = inputs[1] > 0
        before, now = short[..., :-1, :], short[..., 1:, :]
        of_value = torch.repeat_interleave(torch.arange(3), torch.tensor([128, 128, 256])).to(short.device)
        parts = []
        for name, chosen in (
            ("long", ~before & ~now),
            ("long to short", ~before & now),
            ("short", before & now),
            ("short to long", before & ~now),
        ):
            mask = torch.zeros_like(short)
            mask[..., 1:, :] = chosen
            parts.append((name, mask[..., of_value]))
        return parts


class MdctObjective(_LappedObjective):
    """bands, bsm -> spectrum."""

    fields = ("bands", "bsm", "spectrum")

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.stage, self.teacher = NeuralMdct(**model), BitExactMdct()

    def _training(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        bsm = _draw_modes(batch["bsm"].shape, generator).to(batch["bands"])
        return {"input0": batch["bands"], "input1": bsm, "target": self.teacher(batch["bands"], bsm)}

    def _stored(self, batch: Tensors) -> tuple[tuple[Tensor, ...], Tensor]:
        return (batch["bands"], batch["bsm"].to(batch["bands"])), batch["spectrum"]


class ImdctObjective(_LappedObjective):
    """spectrum, bsm -> bands. A decoder's spectrum has holes, so training takes that of the encoder."""

    fields = ("spectrum", "bsm", "dec_spectrum", "dec_bands")

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.stage, self.teacher = NeuralImdct(**model), BitExactImdct()

    def _training(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        bsm = _draw_modes(batch["bsm"].shape, generator).to(batch["spectrum"])
        return {"input0": batch["spectrum"], "input1": bsm, "target": self.teacher(batch["spectrum"], bsm)}

    def _stored(self, batch: Tensors) -> tuple[tuple[Tensor, ...], Tensor]:
        return (batch["dec_spectrum"], batch["bsm"].to(batch["dec_spectrum"])), batch["dec_bands"]
