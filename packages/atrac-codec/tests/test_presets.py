from __future__ import annotations

from pathlib import Path
from typing import final

import pytest
import torch
from torch import Tensor, nn

import atrac_modules
from atrac_codec import (
    DECODERS,
    ENCODERS,
    NNFullCodec,
    Trained,
    build_decoder,
    build_encoder,
    checkpoint,
    presets,
    save_stage,
)
from atrac_codec.checkpoint import describe
from atrac_codec.cli import main
from atrac_codec.codec_folder import ROLES, Row
from atrac_codec.presets import EFFORTS, WEIGHTS
from atrac_modules import Iqmf, ReferenceIqmf

MB = 10**6
ABOUT = {"training data", "licences", "seed", "curve", "metrics"}


@final
class NeuralTinyIqmf(Iqmf):
    """The reference with a gain to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, object] = {}
        self.inner = ReferenceIqmf()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, bands: Tensor) -> Tensor:
        result: Tensor = self.inner(bands) * self.gain
        return result


def names_of(row: Row) -> set[str]:
    return {make.name for make in row.values() if isinstance(make, Trained)}


def size_of(names: set[str]) -> int:
    return sum((WEIGHTS / f"{name}.{end}").stat().st_size for name in names for end in ("safetensors", "json"))


ROWS = [*((ENCODERS, name) for name in ENCODERS), *((DECODERS, name) for name in DECODERS)]


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_every_role_has_the_stage_of_its_table(table: dict[str, Row], name: str):
    built = build_encoder(name) if table is ENCODERS else build_decoder(name)
    stages, row = dict(built.named_children()), table[name]
    assert list(stages) == list(row) == list(ROLES["encoder" if table is ENCODERS else "decoder"])
    for role, stage in stages.items():
        made = row[role]
        name = describe(made.path)["class"] if isinstance(made, Trained) else made.__name__  # type: ignore[attr-defined]
        assert type(stage).__name__ == name
        assert isinstance(stage, getattr(atrac_modules, role.capitalize()))


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match=f"^preset 'best', allowed {', '.join(ENCODERS)} or a folder with codec.json$"):
        build_encoder("best")
    with pytest.raises(
        ValueError, match=f"^decoder 'best', allowed {', '.join(DECODERS)} or a folder with codec.json$"
    ):
        build_decoder("best")


def test_weights_are_named_by_their_content_and_used():
    used = set().union(*(names_of(table[name]) for table, name in ROWS))
    files = {p.name for p in WEIGHTS.iterdir()} - {"README.md"}
    assert files == {f"{name}.{end}" for name in used for end in ("safetensors", "json")}
    for name in used:
        Trained(name)()  # holds the content against the name
        assert describe(WEIGHTS / f"{name}.json").keys() >= ABOUT, name
    for table, name in ROWS:
        assert all(make.name.startswith(f"{r}-") for r, make in table[name].items() if isinstance(make, Trained)), name


def test_weights_are_small():
    everything = [names_of(table[name]) for table, name in ROWS]
    for name in {*ENCODERS, *DECODERS}:
        assert size_of(names_of(ENCODERS.get(name, {})) | names_of(DECODERS.get(name, {}))) <= 3 * MB, name
    assert size_of(set().union(*everything)) <= 10 * MB


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A decoder `tiny` with a trained stage, which halves what it decodes."""
    monkeypatch.setattr(checkpoint, "loadable", lambda: {"NeuralTinyIqmf": NeuralTinyIqmf})
    monkeypatch.setattr(presets, "WEIGHTS", tmp_path / "weights")
    stage = NeuralTinyIqmf()
    stage.gain.data *= 0.5
    made = Trained(save_stage(stage, tmp_path / "weights", "iqmf", {}).stem)
    monkeypatch.setitem(DECODERS, "tiny", {**DECODERS["standard"], "iqmf": made})
    return made


@torch.no_grad()
def test_a_trained_stage_plays_its_role_in_a_preset(trained: Trained, sound):
    wave = torch.from_numpy(sound(3000))[None]
    decoded, standard = (NNFullCodec.from_pretrained("reference", name)(wave) for name in ("tiny", "standard"))
    assert torch.equal(decoded, standard / 2)
    assert trained() is not trained()
    assert trained == Trained(trained.name)


def test_new_rows_are_known_to_the_command_line_and_missing_weights_reported(
    trained: Trained, aea, tmp_path, capsys, monkeypatch
):
    (tmp_path / "x.aea").write_bytes(aea())
    decode = ["decode", str(tmp_path / "x.aea"), "--force", "--decoder"]
    assert main([*decode, "best"]) == 2
    assert f"allowed {', '.join(DECODERS)}" in capsys.readouterr().err
    assert main([*decode, "tiny"]) == 0
    assert (tmp_path / "x.wav").exists()
    monkeypatch.setitem(DECODERS, "gone", {**DECODERS["standard"], "iqmf": Trained("iqmf-00000000")})
    assert main([*decode, "gone"]) == 1
    assert "No such file" in capsys.readouterr().err


def test_effort_says_how_block_lengths_are_chosen():
    expected = ["ReferenceTransient", "RateDistortionTransient", "RateDistortionTransient"]
    assert [type(build_encoder("rd", effort).transient).__name__ for effort in EFFORTS] == expected
    expected[:2] = "NeuralEntropyTransient", "NeuralEntropyTransient"
    assert [type(build_encoder("neural", effort).transient).__name__ for effort in EFFORTS] == expected


def test_effort_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"^effort 'most', allowed fast, default, best$"):
        build_encoder("rd", "most")
    with pytest.raises(ValueError, match=r"^effort 'fast', allowed default: preset reference searches for nothing$"):
        build_encoder("reference", "fast")
    assert build_encoder("reference", "default")
