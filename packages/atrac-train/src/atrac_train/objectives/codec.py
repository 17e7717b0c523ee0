"""The whole codec, from sound to sound: what it is trained for end to end, and what is measured of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from atrac_bitstream import CODEC_DELAY
from atrac_codec import NNFullCodec
from atrac_codec.checkpoint import loadable
from atrac_codec.codec_folder import ROLES
from atrac_codec.trace import Fields, trace
from atrac_losses import (
    EarModel,
    Loss,
    l1,
    log_spectral_distance,
    mel_distance,
    mse,
    multi_resolution_stft_loss,
    nmr,
    segmental_snr,
    snr,
)
from atrac_losses.spectrogram import power_spectrogram
from atrac_modules import Stage, used_value_bits, value_bits
from atrac_train.objective import Objective, Scores, Tensors


class BandError(nn.Module):
    """Error in each band relative to the sound there, as the log-spectral distance counts it.

    level = 10 log10(1 + noise / (0.03 sound + 1e-10)), error = mean over frames of sqrt(mean over bands of level ** 2)

    Bands are 344 Hz wide. It asks for what the log-spectral distance asks for, that nothing be lost at any frequency,
    by a noise energy, whose slope is true also where a band is lost: there the slope of the distance is next to 0.
    """

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return the error in dB: estimate, reference [*, T] -> []."""
        with torch.autocast(estimate.device.type, enabled=False):
            noise, sound = (self._bands(x.float()) for x in (estimate - reference, reference))
            level = 10 * torch.log10(1 + noise / (0.03 * sound + 1e-10))
            return level.square().mean(-1).add(1e-6).sqrt().mean()

    def _bands(self, signal: Tensor) -> Tensor:
        bins = power_spectrogram(signal, 1024, 256)[..., :512]
        return bins.reshape(*bins.shape[:-1], 64, 8).mean(-1)


LOSSES: Final[dict[str, Callable[[], nn.Module]]] = {
    "l1": lambda: Loss(l1),
    "mse": lambda: Loss(mse),
    "snr": lambda: Loss(snr),
    "stft": lambda: Loss(multi_resolution_stft_loss),
    "mel": lambda: Loss(mel_distance),
    "lsd": lambda: Loss(log_spectral_distance, n_fft=1024, hop=256),
    "bands": BandError,
    "nmr": lambda: Loss(nmr, ear=EarModel(n_fft=1024, bands_per_bark=2)),
}
"""Losses of the decoded sound. What `measure` reports is finer: it is not what training minimises."""
AUXILIARY: Final = (
    "bands", "bsm", "spectrum", "idsf", "scaled", "idwl", "quantized", "dec_spectrum", "dec_bands",
)  # fmt: skip
"""Fields in which the codec may be kept close to the teacher."""
MEASURED: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "NMR (dB)": nmr,
    "LSD (dB)": log_spectral_distance,
    "SNR (dB)": snr,
    "segmental SNR (dB)": segmental_snr,
}


class CodecFolderObjective(Objective):
    """Some learned stages of a whole codec, which is saved as a folder.

    Args:
        model: by role, constructor arguments that differ from those of the stage to start from, or the `class` of
            another learned stage to put in its place; weights that the start has not are drawn.
        start: preset or codec folder to start from.
        decoder: decoder or codec folder to decode with.
        train: role to its share of the learning rate. All others, and those with 0, stay as they are.

    Raises:
        ValueError: a name is unknown, a share is below 0, or nothing is left to learn.
    """

    def __init__(
        self, model: dict[str, dict[str, Any]], *, train: dict[str, float], start: str, decoder: str = "standard"
    ) -> None:
        super().__init__()
        self.start, self.decoder = start, decoder
        self.codec = NNFullCodec.from_pretrained(start, decoder)
        halves = self._halves()
        _check("model", dict.fromkeys(model, 1.0), halves)
        self._rates = _check("objective.train", train, halves)
        for role, changed in model.items():
            setattr(halves[role], role, _rebuilt(getattr(halves[role], role), role, changed))
        self.requires_grad_(False)
        for role in self._rates:
            stage: Stage = getattr(halves[role], role)
            if not list(stage.parameters()):
                raise ValueError(f"objective.train: {role} is a {type(stage).__name__}, which has nothing to learn")
            stage.requires_grad_(True)
        if not self._rates:
            raise ValueError("objective.train: name at least one stage to train")

    @classmethod
    def saved(cls, weights: str, role: str, settings: Mapping[str, Any]) -> Self:
        return cls({}, **{**settings, "start": weights})

    def _halves(self) -> dict[str, nn.Module]:
        """Return the half of the codec that holds each role."""
        return {role: getattr(self.codec, half) for half, roles in ROLES.items() for role in roles}

    def parameter_groups(self) -> list[dict[str, Any]]:
        halves = self._halves()
        return [
            {"params": list(getattr(halves[role], role).parameters()), "rate": rate}
            for role, rate in self._rates.items()
        ]

    def save(self, folder: Path, role: str, about: Mapping[str, Any]) -> Path:
        return self.codec.save_pretrained(folder, about)


class CodecObjective(CodecFolderObjective):
    """pcm -> pcm.

    loss = sum of weight x loss of the decoded sound + sum of weight x distance to the teacher in a field on the way

    A distance is the energy of the difference as a share of the teacher's energy. Losses look at a channel at a time;
    evaluation takes runs with all their channels, as a recording is coded.

    Args:
        model, train, start, decoder: as in `CodecFolderObjective`. What is trained with a decoder other than `standard`
            sounds as it should only there.
        losses: name in `LOSSES` to weight.
        auxiliary: field in `AUXILIARY` to weight.

    Raises:
        ValueError: a name is unknown, a share or weight is below 0, or nothing is left to learn, or to learn it from.
    """

    fields: tuple[str, ...] = ("pcm",)
    frames: int = 32

    def __init__(
        self,
        model: dict[str, dict[str, Any]],
        *,
        train: dict[str, float],
        losses: dict[str, float],
        start: str = "neural-stages",
        decoder: str = "standard",
        auxiliary: dict[str, float] | None = None,
    ) -> None:
        super().__init__(model, train=train, start=start, decoder=decoder)
        self._arguments: dict[str, Any] = {
            "train": train, "losses": losses, "start": start, "decoder": decoder, "auxiliary": auxiliary
        }  # fmt: skip
        self.weights = {
            "losses": _check("objective.losses", losses, LOSSES),
            "auxiliary": _check("objective.auxiliary", auxiliary or {}, AUXILIARY),
        }
        if not any(self.weights.values()):
            raise ValueError("objective: name at least one loss")
        self.fields = ("pcm", *self.weights["auxiliary"])
        self.losses = nn.ModuleDict({name: LOSSES[name]() for name in self.weights["losses"]})

    def origin(self) -> CodecObjective:
        return CodecObjective({}, **self._arguments)

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        # An item of a training batch is a channel, a run of an evaluation has all of its recording's.
        axis = 1 if self.training else 0
        return {name: field.unsqueeze(axis) for name, field in batch.items()}

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        wave = example["pcm"].flatten(-2)
        made = trace(self.codec.encoder, self.codec.decoder, wave)
        decoded = _aligned(made)
        parts = {name: loss(decoded, wave[..., : decoded.shape[-1]]) for name, loss in self.losses.items()}
        parts |= {f"auxiliary {name}": _distance(made[name], example[name]) for name in self.weights["auxiliary"]}
        total = sum(weight * parts[name] for name, weight in self.weights["losses"].items())
        total += sum(weight * parts[f"auxiliary {name}"] for name, weight in self.weights["auxiliary"].items())
        return {"loss": total, **parts}

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        wave = example["pcm"].flatten(-2)
        made = trace(self.codec.encoder, self.codec.decoder, wave)
        decoded = _aligned(made)
        wave = wave[..., : decoded.shape[-1]]
        samples = float(wave.shape[-1])
        sums = {name: (samples * one(decoded, wave)).double() for name, one in MEASURED.items()}
        over = used_value_bits(made["idwl"]) > value_bits(made["n_bfu"])
        return sums | {"samples": torch.tensor(samples, dtype=torch.float64), "over": over.sum().double()}

    def scores(self, sums: Tensors) -> Scores:
        means = {name: float(sums[name] / sums["samples"]) for name in MEASURED}
        return means | {"units over budget": float(sums["over"])}


def _aligned(made: Fields) -> Tensor:
    """Return the decoded sound without the codec's delay, as long as the frames hold it. Shape: [B, C, 512 F - 266]."""
    return made["dec_pcm"].flatten(-2)[..., CODEC_DELAY:]


def _check(setting: str, given: Mapping[str, float], known: Iterable[str]) -> dict[str, float]:
    """Return those that are above 0. Raises: ValueError."""
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{setting}: {name!r}, allowed {', '.join(known)}")
        if not value >= 0:
            raise ValueError(f"{setting}.{name} = {value}, allowed from 0 on")
    return {name: value for name, value in given.items() if value > 0}


def _distance(own: Tensor, teacher: Tensor) -> Tensor:
    """Return the energy of the difference as a share of the teacher's."""
    target = teacher.to(own)
    return (own - target).square().sum() / target.square().sum().clamp_min(1e-12)


def _rebuilt(stage: Stage, role: str, changed: Mapping[str, Any]) -> Stage:
    """Return a stage of the same class or of another learned one, with weights that both have. Raises: ValueError."""
    classes = {name: found for name, found in loadable().items() if isinstance(stage, found.__bases__)}
    changed = dict(changed)
    name = changed.pop("class", type(stage).__name__)
    if name not in classes:
        raise ValueError(f"model.{role}.class = {name!r}, allowed {', '.join(classes)}")
    if name != type(stage).__name__:
        return classes[name](**changed).eval()
    new = classes[name](**{**stage.settings, **changed})  # type: ignore[dict-item]
    own = new.state_dict()
    kept = {key: value for key, value in stage.state_dict().items() if key in own and own[key].shape == value.shape}
    new.load_state_dict({**own, **kept})
    return new.eval()
