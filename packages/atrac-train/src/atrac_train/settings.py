"""Settings of a training: these classes own names, types, defaults and checks, YAML files and the command line values.

A file states what differs from the defaults, or from another file that its key `base` names, relative to it. Arguments
of the command line are `key=value`, nested keys with dots, values as YAML has them; they count most. OmegaConf reads
both.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from atrac_bitstream import write_whole
from atrac_data import NAMES

COMMAND_LINE: Final = "command line"


@dataclass(frozen=True)
class DataSettings:
    """Settings of the training data.

    Args:
        shards: folder with train/, validation/ and test/, as apps/extract.py writes it; empty for the built-in corpus.
        evaluation: folder of shards whose validation/ and test/ are used instead; empty for those of `shards`.
        sounds: names of the built-in sounds; none for all.
        seconds: length of each built-in sound.
        variants: number of times each built-in sound is used for training, each with its own offset and gain.
        gain: lowest and highest of these gains, dB.
        batch_size: items of a batch on each rank.
        shuffle: number of items to draw from at random; a recording has 86 frames a second and channel.
        workers: number of processes that read on each rank; 0 reads in the training process.
    """

    shards: str = ""
    evaluation: str = ""
    sounds: tuple[str, ...] = ()
    seconds: float = 10.0
    variants: int = 1
    gain: tuple[float, float] = (0.0, 0.0)
    batch_size: int = 32
    shuffle: int = 1024
    workers: int = 0

    def __post_init__(self) -> None:
        least = {"variants": 1, "batch_size": 1, "shuffle": 0, "workers": 0}
        _check(self, "data.", least=least, positive=["seconds"])
        for name in self.sounds:
            if name not in NAMES:
                raise ValueError(f"data.sounds: {name!r}, allowed {', '.join(NAMES)}")


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of AdamW and its learning rate.

    Args:
        learning_rate: the largest one, after the warm-up.
        final_learning_rate: that of the last step, unless the schedule is `constant`.
        schedule: how the learning rate falls from one to the other.
        warmup_steps: steps over which it rises from near 0.
        clip_norm: gradients are scaled down to this norm; 0 leaves them.
        weight_decay: of AdamW; 0 is Adam.
        betas: of Adam.
    """

    learning_rate: float = 1e-3
    final_learning_rate: float = 0.0
    schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    warmup_steps: int = 0
    clip_norm: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        least = dict.fromkeys(("final_learning_rate", "warmup_steps", "clip_norm", "weight_decay"), 0)
        _check(self, "optimizer.", least=least, positive=["learning_rate"])
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas = {self.betas}, allowed 0 or more and below 1")
        if self.schedule == "exponential" and self.final_learning_rate == 0:
            raise ValueError("optimizer.final_learning_rate = 0.0, allowed above 0 where the schedule is exponential")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training.

    Args:
        stage: name of what is trained.
        epochs: largest number of epochs.
        steps_per_epoch: optimizer steps between two evaluations.
        seed: of the first weights, of the order of the data, and of all random numbers.
        patience: epochs without a better validation loss after which training stops; 0 never stops early.
        keep: `best` keeps the weights of the epoch with the best validation loss, `last` those of the last epoch, for
            losses that do not compare between epochs; patience must be 0 then.
        checkpoint_epochs: epochs between checkpoints.
        output: folder; empty for runs/STAGE.
        tensorboard: write for TensorBoard too.
        precision: of training; evaluation is in float32.
        model: keyword arguments of the stage.
        objective: keyword arguments of the objective.
        data: settings of the training data.
        optimizer: settings of the optimizer.
    """

    stage: str = MISSING
    epochs: int = MISSING
    steps_per_epoch: int = MISSING
    seed: int = 0
    patience: int = 0
    keep: Literal["best", "last"] = "best"
    checkpoint_epochs: int = 1
    output: str = ""
    tensorboard: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    model: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    data: DataSettings = field(default_factory=DataSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        _check(self, "", least={"epochs": 1, "steps_per_epoch": 1, "patience": 0, "checkpoint_epochs": 1})
        if self.keep == "last" and self.patience:
            raise ValueError(f"patience = {self.patience}, allowed 0 where the last weights are kept")
        if (warmup := self.optimizer.warmup_steps) >= self.steps:
            raise ValueError(f"optimizer.warmup_steps = {warmup}, allowed below the {self.steps} steps")

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.output or f"runs/{self.stage}")

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.epochs * self.steps_per_epoch

    def as_dict(self) -> dict[str, Any]:
        """Return them as YAML and JSON have them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def read_settings(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> TrainingSettings:
    """Read files, later ones over earlier ones, then overrides.

    Args:
        files: YAML files.
        overrides: `key=value`.

    Raises:
        ValueError: a key is unknown or missing, or a value not allowed; the message says where and what is allowed.
        OSError: a file cannot be read.
    """
    merged: Any = OmegaConf.structured(TrainingSettings)
    sources = [source for file in files for source in _sources(Path(file), ())]
    for place, stated in [*sources, (COMMAND_LINE, read_overrides(overrides))]:
        try:
            merged = OmegaConf.merge(merged, stated)
        except OmegaConfBaseException as error:
            raise ValueError(_explained(error, place)) from None
    try:
        missing = sorted(OmegaConf.missing_keys(merged))
        settings = None if missing else OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:  # a reference to a key that does not exist
        raise ValueError(_explained(error, "settings")) from None
    if missing:
        raise ValueError(f"{missing[0]} is not set; set it by {missing[0]}=VALUE or in a file")
    assert isinstance(settings, TrainingSettings)
    return settings


def read_overrides(arguments: Sequence[str]) -> DictConfig:
    """Read arguments of the command line. Raises: ValueError: one is not `key=value`."""
    for argument in arguments:
        if not argument.partition("=")[0] or "=" not in argument:
            raise ValueError(f"{argument!r} ({COMMAND_LINE}): allowed key=value")
    try:
        return OmegaConf.from_dotlist(list(arguments))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{COMMAND_LINE}: no YAML: {_one_line(error)}") from None


def explain_settings() -> str:
    """Return the help text of all settings, from the classes' docstrings, with the defaults as YAML."""
    classes = (TrainingSettings, DataSettings, OptimizerSettings)
    parts = [(inspect.getdoc(one) or "").replace("Args:", "").replace("\n\n\n", "\n") for one in classes]
    defaults = OmegaConf.to_yaml(OmegaConf.structured(TrainingSettings)).replace("???", "(to be set)")
    return "\n\n".join([*parts, f"Defaults:\n\n{defaults}"])


def claim(settings: TrainingSettings, *, write: bool) -> None:
    """Check that the output folder holds the same training, or is new; write the settings into a new one.

    Args:
        settings: those of the training.
        write: write them to the folder's settings.yaml if there is none.

    Raises:
        ValueError: the folder holds another training; the first setting that differs is named.
        OSError: the folder cannot be written.
    """
    path = settings.folder / "settings.yaml"
    if path.exists():
        try:
            there = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            there = None
        if not isinstance(there, Mapping):
            raise ValueError(f"{path}: not the settings of a training")
        old, new = dict(_flat(there)), dict(_flat(settings.as_dict()))
        for key in [*new, *old]:
            if key != "output" and old.get(key) != new.get(key):
                was, now = (repr(one[key]) if key in one else "not set" for one in (old, new))
                raise ValueError(f"{settings.folder}: begun with {key} = {was}, now {now}; choose another output")
    elif write:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, yaml.safe_dump(settings.as_dict(), sort_keys=False, allow_unicode=True).encode())


def _check(settings: Any, prefix: str, *, least: Mapping[str, int], positive: Sequence[str] = ()) -> None:
    """Check that numbers are finite and at least so large, or above 0. Raises: ValueError."""
    for name in (*least, *positive):
        value = getattr(settings, name)
        if not (math.isfinite(value) and (value >= least[name] if name in least else value > 0)):
            allowed = f"{least[name]} or more" if name in least else "above 0"
            raise ValueError(f"{prefix}{name} = {value}, allowed {allowed}")


def _sources(path: Path, children: tuple[Path, ...]) -> list[tuple[str, Any]]:
    """Return the files that a file is based on and the file itself: place and content of each, the first one first."""
    if path.resolve() in children:
        raise ValueError(f"{path}: is its own base")
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ValueError(f"{path}: no YAML: {_one_line(error)}") from None
    if not isinstance(content, DictConfig) or not isinstance(content.get("base", ""), str):
        raise ValueError(f"{path}: allowed keys and values, and a file's name as base")
    base = content.pop("base", "")
    below = _sources(path.parent / base, (*children, path.resolve())) if base else []
    return [*below, (str(path), content)]


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their values."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _explained(error: OmegaConfBaseException, place: str) -> str:
    """Say in one line what is wrong, with the nearest known key if a key is unknown."""
    key = error.full_key or ""
    if not isinstance(error, ConfigKeyError):
        return f"{f'{key} ' if key else ''}({place}): {_one_line(error)}"
    known = [name for name, _ in _flat(TrainingSettings("", 1, 1).as_dict())]
    last_part = {name.rpartition(".")[2]: name for name in reversed(known)}
    names = last_part | {name: name for name in known}
    near = difflib.get_close_matches(key, names, 1) or difflib.get_close_matches(key.rpartition(".")[2], names, 1)
    hint = f"did you mean {names[near[0]]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown setting {key!r} ({place}); {hint}"


def _one_line(error: Exception) -> str:
    """Return an error's message without the lines that OmegaConf adds about its objects."""
    return " ".join(
        line.strip() for line in str(error).splitlines() if "full_key:" not in line and "_type=" not in line
    )
