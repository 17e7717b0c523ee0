from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import atrac_modules
from atrac_codec import CheckpointError, checkpoint, load_stage, save_stage
from atrac_codec.checkpoint import describe, loadable
from atrac_modules import Qmf

ABOUT = {"training data": ["built-in"], "seed": 3, "curve": [[0, 1.5], [100, 0.25]]}


@final
class NeuralTiny(Qmf):
    """A stage with weights, and little else."""

    def __init__(self, width: int = 4, scale: float = 1.0) -> None:
        super().__init__()
        self.settings = {"width": width, "scale": scale}
        self.scale = scale
        self.net = nn.Linear(512, width)
        self.out = nn.Linear(width, 512)
        self.register_buffer("steps", torch.tensor(7))

    def forward(self, pcm: Tensor) -> Tensor:
        result: Tensor = self.out(self.net(pcm.unflatten(-1, (-1, 512))).tanh()) * self.scale
        return result


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> NeuralTiny:
    """A stage of a class that can be loaded."""
    monkeypatch.setattr(checkpoint, "loadable", lambda: {"NeuralTiny": NeuralTiny})
    torch.manual_seed(0)
    return NeuralTiny(width=5, scale=2.0)


@pytest.fixture
def saved(tiny: NeuralTiny, tmp_path: Path) -> Path:
    return save_stage(tiny, tmp_path / "weights", "qmf", ABOUT)


@pytest.fixture
def changed(saved: Path) -> Callable[..., Path]:
    """Write the saved checkpoint anew with other JSON, other tensors, or other bytes in their place."""

    def change(
        sheet: dict[str, Any] | None = None, tensors: dict[str, Any] | None = None, data: bytes | None = None
    ) -> Path:
        state = {**safetensors.torch.load_file(saved), **(tensors or {})}
        data = safetensors.torch.save({k: v for k, v in state.items() if v is not None}) if data is None else data
        path = saved.with_name(f"qmf-{hashlib.sha256(data).hexdigest()[:8]}.safetensors")
        path.write_bytes(data)
        path.with_suffix(".json").write_text(json.dumps({**describe(saved), **(sheet or {})}))
        return path

    return change


def test_what_was_saved_comes_back(tiny, saved):
    for path in (str(saved), saved.with_suffix(".json")):
        stage = load_stage(path, "qmf")
        assert type(stage) is NeuralTiny
        assert stage.settings == tiny.settings
        assert not stage.training
        assert all(torch.equal(stage.state_dict()[name], tensor) for name, tensor in tiny.state_dict().items())


def test_two_files_say_what_they_are(saved):
    assert saved.name == f"qmf-{hashlib.sha256(saved.read_bytes()).hexdigest()[:8]}.safetensors"
    assert {p.name for p in saved.parent.iterdir()} == {saved.name, f"{saved.stem}.json"}
    sheet = describe(saved)
    assert sheet == describe(str(saved.with_suffix(".json"))) == json.loads(saved.with_suffix(".json").read_text())
    assert {"torch", "atrac-modules", "atrac-codec"} <= sheet.pop("versions").keys()
    settings = {"width": 5, "scale": 2.0}
    assert sheet == {"format": 1, "role": "qmf", "class": "NeuralTiny", "settings": settings, **ABOUT}


def test_equal_weights_have_equal_bytes_and_names(tiny, saved, contents, tmp_path):
    before = contents(saved.parent)
    other = NeuralTiny(**tiny.settings)
    other.load_state_dict(dict(reversed(tiny.state_dict().items())))
    other.net.weight.data = other.net.weight.data.t().contiguous().t()
    assert save_stage(other, tmp_path / "other", "qmf", ABOUT).name == saved.name
    assert contents(tmp_path / "other") == before
    with torch.no_grad():
        other.out.bias[3] += 1e-6
    assert save_stage(other, tmp_path / "other", "qmf", ABOUT).name != saved.name


def test_loading_draws_no_random_numbers_and_keeps_to_the_default_dtype(saved):
    before = torch.get_rng_state()
    single = load_stage(saved).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_default_dtype(torch.float64)
    try:
        double = load_stage(saved).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert double["net.weight"].dtype == torch.float64
    assert all(torch.equal(double[name], tensor.to(double[name].dtype)) for name, tensor in single.items())


def test_a_failed_write_leaves_nothing_new(tiny, tmp_path, monkeypatch):
    def full(*paths: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space left"):
        save_stage(tiny, tmp_path, "qmf", {})
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_loaded_is_not_saved(tiny, tmp_path):
    folder = tmp_path / "out"

    def refused(error: type[Exception], message: str, role: str = "qmf", about: Any = None) -> None:
        with pytest.raises(error, match=message):
            save_stage(stage, folder, role, about or {})
        assert not folder.exists()

    stage: nn.Module = nn.Linear(2, 2)
    refused(TypeError, "Linear.settings is None, expected a dict")
    stage.settings = {"in_features": 2, "out_features": 2}  # type: ignore[assignment]
    refused(ValueError, "not saved: Linear: class 'Linear', allowed NeuralTiny")
    stage = tiny
    refused(ValueError, "not saved: NeuralTiny: role mdct, but NeuralTiny is for qmf", role="mdct")
    refused(ValueError, "about has class, role, allowed all keys but format, role", about={"role": 2, "class": 1})
    refused(TypeError, "not JSON serializable", about={"where": tmp_path})
    refused(ValueError, "not JSON compliant", about={"loss": float("nan")})
    stage.settings = {"width": 9}
    refused(ValueError, r"net.weight is \[5, 512\] torch.float32, allowed \[9, 512\] torch.float32")
    stage = NeuralTiny().double()
    refused(ValueError, r"net.weight is \[4, 512\] torch.float64, allowed \[4, 512\] torch.float32")
    stage = NeuralTiny()
    stage.net.weight.data[1, 2] = float("inf")  # type: ignore[union-attr, operator, index]
    refused(ValueError, r"net.weight\[1, 2\] = inf, allowed finite numbers")


def test_files_that_are_not_there_are_errors_of_the_system(saved, tmp_path):
    for suffix in ("safetensors", "json"):
        for ask in (load_stage, describe):
            with pytest.raises(FileNotFoundError):
                ask(tmp_path / f"qmf-00000000.{suffix}")
    saved.unlink()
    with pytest.raises(FileNotFoundError):
        load_stage(saved.with_suffix(".json"))


@pytest.mark.parametrize(
    "name", ["qmf.safetensors", "qmf-1A2B3C4D.safetensors", "qmf-1a2b3c4d.pt", "-1a2b3c4d.json", ""]
)
def test_names_of_other_files_are_refused(name: str):
    for ask in (load_stage, describe):
        with pytest.raises(CheckpointError, match=r"not a checkpoint, allowed ROLE-HASH\.safetensors"):
            ask(name)


def test_another_role_than_asked_is_refused(saved):
    with pytest.raises(CheckpointError, match=rf"{saved.name}: role qmf, asked for mdct"):
        load_stage(saved, "mdct")


def test_other_content_than_the_name_says_is_refused(saved):
    data = saved.read_bytes()
    for other in (b"", data[:-1], data[:5] + b"?" + data[6:], data[:-1] + b"?", data + b"?"):
        saved.write_bytes(other)
        digest = hashlib.sha256(other).hexdigest()[:8]
        with pytest.raises(CheckpointError, match=rf"{saved.name}: damaged, .* begins with {digest}, allowed "):
            load_stage(saved)


def test_made_up_bytes_with_their_own_hash_give_a_stage_or_an_error(saved, changed):
    data = saved.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(1)
    for place in [*range(0, header, 3), *rng.integers(header, len(data), 20)]:
        made = data[:place] + bytes([data[place] ^ rng.integers(1, 256)]) + data[place + 1 :]
        try:
            load_stage(changed(data=made))
        except CheckpointError:
            continue
        assert place >= header or made[place : place + 1] == b" ", place


@pytest.mark.parametrize("data", [b"", b"no tensors", b"\xff" * 100, b"\x02" + bytes(7) + b"[]"])
def test_files_without_tensors_are_refused(data: bytes, changed):
    with pytest.raises(CheckpointError, match=r"qmf-[0-9a-f]{8}\.safetensors: not safetensors: "):
        load_stage(changed(data=data))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"net.bias": None, "net.weight": None}, "2 missing tensors for NeuralTiny, first 'net.bias'"),
        ({"more": torch.zeros(1)}, "1 unexpected tensors for NeuralTiny, first 'more'"),
        ({"net.bias": torch.zeros(6)}, r"net.bias is \[6\] torch.float32, allowed \[5\] torch.float32"),
        ({"net.bias": torch.zeros(5).half()}, r"net.bias is \[5\] torch.float16, allowed \[5\] torch.float32"),
        ({"steps": torch.tensor(7.0)}, r"steps is \[\] torch.float32, allowed \[\] torch.int64"),
        ({"net.bias": torch.full((5,), float("nan"))}, r"net.bias\[0\] = nan, allowed finite numbers"),
        ({"out.weight": torch.full((512, 5), float("inf"))}, r"out.weight\[0, 0\] = inf, allowed finite numbers"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors, message: str, changed):
    path = changed(tensors=tensors)
    with pytest.raises(CheckpointError, match=rf"{path.name}: {message}"):
        load_stage(path)


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ({"format": 2}, "json: format 2, allowed 1"),
        ({"role": "mdct"}, "safetensors: role 'mdct' in its JSON, allowed 'qmf'"),
        ({"class": "ReferenceQmf"}, "safetensors: class 'ReferenceQmf', allowed NeuralTiny"),
        ({"class": ["NeuralTiny"]}, r"class \['NeuralTiny'\], allowed NeuralTiny"),
        ({"settings": None}, r"settings None, allowed NeuralTiny\(width: "),
        ({"settings": [5]}, r"settings \[5\], allowed NeuralTiny\(width: "),
        ({"settings": {"depth": 1}}, r"settings {'depth': 1}, allowed NeuralTiny\(width: .*'depth'"),
        ({"settings": {"width": "wide"}}, "settings {'width': 'wide'}, allowed NeuralTiny"),
        ({"settings": {"width": -1}}, "settings {'width': -1}, allowed NeuralTiny"),
        ({"settings": {"width": 6}}, r"net.weight is \[5, 512\] torch.float32, allowed \[6, 512\] torch.float32"),
    ],
)
def test_sheets_that_do_not_fit_are_refused(sheet, message: str, changed):
    with pytest.raises(CheckpointError, match=message):
        load_stage(changed(sheet=sheet))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "json: not JSON: "),
        (b"\xff\xfe{", "json: not JSON: "),
        (b"[" * 100_000, "json: not JSON: "),
        (b"[]", "json: list, allowed an object"),
        (b"{}", "json: format None, allowed 1"),
        (None, r"safetensors: no qmf-.*\.json beside it"),
    ],
)
def test_missing_and_damaged_sheets_are_refused(text: bytes | None, message: str, saved):
    saved.with_suffix(".json").unlink() if text is None else saved.with_suffix(".json").write_bytes(text)
    for ask in (load_stage, describe):
        with pytest.raises(CheckpointError, match=message):
            ask(saved)


def test_only_final_neural_stages_can_be_loaded(monkeypatch):
    class NeuralOpen(Qmf):
        """Not final."""

    class NeuralChild(NeuralTiny):  # type: ignore[misc]
        """Final is what it derives from."""

    others = {"NeuralOpen": NeuralOpen, "NeuralChild": NeuralChild, "NeuralNothing": print, "NeuralList": list}
    before = loadable()
    for name, found in {**others, "NeuralTiny": NeuralTiny, "OtherTiny": NeuralTiny}.items():
        monkeypatch.setattr(atrac_modules, name, found, raising=False)
    monkeypatch.setattr(atrac_modules, "__all__", [*atrac_modules.__all__, *others, "NeuralTiny", "OtherTiny"])
    monkeypatch.setattr(atrac_modules, "NeuralHidden", NeuralTiny, raising=False)
    assert loadable() == {**before, "NeuralTiny": NeuralTiny}


@pytest.mark.parametrize("name", loadable())
def test_every_neural_stage_comes_back(name: str, tmp_path: Path):
    stage = loadable()[name]()
    back = load_stage(save_stage(stage, tmp_path, type(stage).__base__.__name__.lower(), {}))
    assert type(back) is type(stage)
    assert all(torch.equal(back.state_dict()[key], tensor) for key, tensor in stage.state_dict().items())
