"""Settings of a training: one source for types, defaults and checks of YAML files and the command line.

A file states what differs from the defaults, or from another file that its key `base` names, relative to it. Arguments
of the command line are `key=value`, nested keys with dots, values as YAML has them; they count most.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from atrac_data import NAMES

COMMAND_LINE: Final = "command line"
_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
_Count = Annotated[int, Field(ge=1)]
_CountOrNone = Annotated[int, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]
_Moment = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=_STRICT)
class DataSettings:
    """What is trained on.

    Args:
        shards: folder with train/, validation/ and test/, as apps/extract.py writes it; empty for the built-in corpus.
        evaluation: folder of shards whose validation/ and test/ count instead; empty for those that are trained on.
        sounds: of the built-in corpus, by name; none for all.
        seconds: length of each built-in sound.
        variants: times each built-in sound is taken for training, at offsets of its own and at gains drawn.
        gain: lowest and highest of these, dB.
        batch_size: items of a batch on each rank.
        shuffle: items to draw from at random; a recording has 86 frames a second and channel.
        workers: processes that read on each rank; 0 reads in the training process.
    """

    shards: str = ""
    evaluation: str = ""
    sounds: tuple[Literal[NAMES], ...] = ()  # type: ignore[valid-type]
    seconds: _Positive = 10.0
    variants: _Count = 1
    gain: tuple[float, float] = (0.0, 0.0)
    batch_size: _Count = 32
    shuffle: _CountOrNone = 1024
    workers: _CountOrNone = 0


@dataclass(frozen=True, config=_STRICT)
class OptimizerSettings:
    """AdamW and its learning rate.

    Args:
        learning_rate: the largest one, after the warm-up.
        final_learning_rate: that of the last step, unless the schedule is `constant`.
        schedule: how it gets from one to the other.
        warmup_steps: steps over which it rises from near 0.
        clip_norm: gradients are scaled down to this norm; 0 leaves them.
        weight_decay: of AdamW; 0 is Adam.
        betas: of Adam.
    """

    learning_rate: _Positive = 1e-3
    final_learning_rate: _NotNegative = 0.0
    schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    warmup_steps: _CountOrNone = 0
    clip_norm: _NotNegative = 0.0
    weight_decay: _NotNegative = 0.0
    betas: tuple[_Moment, _Moment] = (0.9, 0.999)


@dataclass(frozen=True, config=_STRICT)
class TrainingSettings:
    """A training.

    Args:
        stage: what is trained, by name.
        epochs: at most.
        steps_per_epoch: optimizer steps between two evaluations.
        seed: of first weights, order of the data and whatever is drawn.
        patience: epochs without a better validation loss after which it stops; 0 never.
        keep: the weights of the epoch with the best validation loss, or of the last one, where losses of different
            epochs do not compare; then patience must be 0.
        checkpoint_epochs: epochs between checkpoints.
        output: folder; default: runs/<stage>.
        tensorboard: write for TensorBoard too.
        precision: of training; evaluation is in float32.
        model: keyword arguments of the stage.
        objective: keyword arguments of the objective.
        data: what is trained on.
        optimizer: how.
    """

    stage: str
    epochs: _Count
    steps_per_epoch: _Count
    seed: int = 0
    patience: _CountOrNone = 0
    keep: Literal["best", "last"] = "best"
    checkpoint_epochs: _Count = 1
    output: str = ""
    tensorboard: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    model: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    data: DataSettings = field(default_factory=DataSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

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
        ValueError: a key is unknown or missing, or a value not allowed; it says where it stood and what is allowed.
        OSError: a file cannot be read.
    """
    stated: dict[str, tuple[Any, str]] = {}
    for file in files:
        stated |= _of_file(Path(file), ())
    for override in overrides:
        key, value = parse_override(override)
        stated |= _flat({key: value}, COMMAND_LINE)
    nested = _nested({key: value for key, (value, _) in stated.items()})
    try:
        # By way of JSON, whose lists are tuples to pydantic even where it converts nothing.
        settings = TypeAdapter(TrainingSettings).validate_json(json.dumps(nested, default=str), strict=True)
    except ValidationError as error:
        raise ValueError(_explained(error, stated)) from None
    rate = settings.optimizer
    if rate.schedule == "exponential" and rate.final_learning_rate == 0:
        raise ValueError("optimizer.final_learning_rate = 0.0, allowed above 0 where the schedule is exponential")
    if settings.keep == "last" and settings.patience:
        raise ValueError(f"patience = {settings.patience}, allowed 0 where the last weights are kept")
    if rate.warmup_steps >= settings.steps:
        raise ValueError(f"optimizer.warmup_steps = {rate.warmup_steps}, allowed below the {settings.steps} steps")
    return settings


def parse_override(text: str) -> tuple[str, Any]:
    """Return key and value of `key=value`. Raises: ValueError: it is no such text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text!r} ({COMMAND_LINE}): allowed key=value")
    try:
        return key, yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r} ({COMMAND_LINE}): no YAML: {error}") from None


def claim(settings: TrainingSettings, *, write: bool) -> None:
    """See that the output folder is that of the same training, or make it so.

    Args:
        settings: the training's.
        write: write the settings down if there are none.

    Raises:
        ValueError: it is of another training; the first setting that differs is named.
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
        old, new = ({k: v[0] for k, v in _flat(one, "").items()} for one in (there, settings.as_dict()))
        for key in [*new, *old]:
            if key != "output" and old.get(key) != new.get(key):
                was, now = (repr(one[key]) if key in one else "not set" for one in (old, new))
                raise ValueError(f"{settings.folder}: begun with {key} = {was}, now {now}; choose another output")
    elif write:
        settings.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(yaml.safe_dump(settings.as_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")
        os.replace(temporary, path)


class _Loader(yaml.SafeLoader):
    """YAML with numbers like 1e-3, which PyYAML takes for texts."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _of_file(path: Path, children: tuple[Path, ...]) -> dict[str, tuple[Any, str]]:
    """Read a file and those it is based on; return values and where they stood, by dotted keys."""
    if path.resolve() in children:
        raise ValueError(f"{path}: is its own base")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no YAML: {error}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict) or not isinstance(content.get("base", ""), str):
        raise ValueError(f"{path}: allowed keys and values, and a file's name as base")
    base = content.pop("base", "")
    below = _of_file(path.parent / base, (*children, path.resolve())) if base else {}
    return below | _flat(content, str(path))


def _flat(values: Mapping[Any, Any], place: str) -> dict[str, tuple[Any, str]]:
    flat: dict[str, tuple[Any, str]] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}.{inner}": one for inner, one in _flat(value, place).items()}
        else:
            flat[str(key)] = (value, place)
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *outer, last = key.split(".")
        at = nested
        for name in outer:
            if not isinstance(at.get(name), dict):
                at[name] = {}
            at = at[name]
        if not (value == {} and isinstance(at.get(last), dict)):  # an empty mapping overrides nothing
            at[last] = value
    return nested


def _known(kind: Any = TrainingSettings) -> list[str]:
    """List all keys, dotted."""
    keys: list[str] = []
    for one in fields(kind):
        nested = one.default_factory
        keys.append(one.name)
        if is_dataclass(nested):
            keys += [f"{one.name}.{inner}" for inner in _known(nested)]
    return keys


def _explained(error: ValidationError, stated: Mapping[str, tuple[Any, str]]) -> str:
    """Say what is wrong with the first setting that is."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] in ("missing", "missing_argument"):
        return f"{key} is not set; set it by {key}=VALUE or in a file"
    prefixes = [".".join(path[:n]) for n in range(len(path), 0, -1)]
    place = next((stated[one][1] for one in prefixes if one in stated), None)
    if place is None:  # stood deeper
        place = next((where for name, (_, where) in stated.items() if name.startswith(f"{key}.")), "?")
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden", "unexpected_property"):
        return f"unknown setting {key!r} ({place}){_suggestion(key)}"
    return f"{key} = {first['input']!r} ({place}): {first['msg'][0].lower()}{first['msg'][1:]}"


def _suggestion(key: str) -> str:
    known = _known()
    by_name = {name.rpartition(".")[2]: name for name in reversed(known)} | {name: name for name in known}
    near = difflib.get_close_matches(key, by_name, n=1) or difflib.get_close_matches(key.rpartition(".")[2], by_name, 1)
    return f"; did you mean {by_name[near[0]]!r}?" if near else f"; known are {', '.join(known)}"
