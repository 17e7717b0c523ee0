"""apps/train_stage.py and the loop under it, on a small model: it learns, goes on, is shared, and says what is wrong.

Run as a script, this file is the app with that model, for tests that need processes of their own.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

APPS = Path(__file__).parents[1] / "apps"
sys.path.insert(0, str(APPS))

from training.data import TrainingData  # noqa: E402
from training.loop import learning_rate  # noqa: E402
from training.objective import Objective, Scores, Tensors  # noqa: E402
from training.settings import DataSettings, OptimizerSettings, TrainingSettings, claim, read_settings  # noqa: E402
from training.tracking import JsonLog, draw_curve, read_log  # noqa: E402

SETTINGS = (
    "stage=fake",
    "epochs=5",
    "steps_per_epoch=4",
    "data.batch_size=16",
    "data.shuffle=64",
    "data.sounds=[noise,attacks]",
    "data.seconds=0.3",
    "optimizer.learning_rate=0.05",
    "optimizer.final_learning_rate=0.001",
    "optimizer.warmup_steps=0",
)


class FakeObjective(Objective):
    """A linear regression of the scale factor indices on the logarithm of the energies."""

    fields = ("max_energy", "idsf")
    frames = 1

    def __init__(self, model: dict[str, Any], spoil_at: int = 0) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Dropout(0.1), nn.Linear(52, 52, **model))
        self._spoil_at, self._steps = spoil_at, 0

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        energy = batch["max_energy"].clamp(min=1e-12).log2() / 20
        noise = torch.randn(energy.shape, generator=generator) * 0.01
        return {"input": energy + noise, "target": batch["idsf"].float() / 63}

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        loss = (self.stage(example["input"]) - example["target"]).square().mean()
        self._steps += self.training
        if self.training and self._steps == self._spoil_at:
            loss = loss * math.nan
        return {"loss": loss, "half": loss / 2}

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        error = self.stage(example["input"]).double() - example["target"]
        return {"square": error.square().sum(), "count": torch.tensor(error.numel(), dtype=torch.float64)}

    def scores(self, sums: Tensors) -> Scores:
        return {"error, rms": float(sums["square"] / sums["count"]) ** 0.5, "ratio to nothing": math.inf}

    def draw(self, examples: Sequence[Tensors], folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fake.txt").write_text(str([list(example["input"].shape) for example in examples]))
        return [folder / "fake.txt"]


def save_stage(stage: nn.Module, folder: Path, role: str, about: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(stage.state_dict(), folder / "fake.pt")
    (folder / "fake.json").write_text(json.dumps({"role": role, **about}))
    return folder / "fake.pt"


def load_stage(path: Path, role: str) -> nn.Module:
    stage = FakeObjective({}).stage
    stage.load_state_dict(torch.load(path, weights_only=True))
    return stage


def app_with_fake() -> ModuleType:
    stages = ModuleType("training.stages")
    stages.OBJECTIVES = {"fake": FakeObjective}  # type: ignore[attr-defined]
    sys.modules["training.stages"] = stages
    app = importlib.import_module("train_stage")
    app.save_stage, app.load_stage = save_stage, load_stage  # type: ignore[attr-defined]
    return app


if __name__ == "__main__":
    sys.exit(app_with_fake().main())


@pytest.fixture(scope="module")
def app() -> Iterator[ModuleType]:
    before = sys.modules.get("training.stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "1")
        yield app_with_fake()
    del sys.modules["training.stages"], sys.modules["train_stage"]
    if before is not None:
        sys.modules["training.stages"] = before


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def done(app: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training on the built-in corpus."""
    output = tmp_path_factory.mktemp("done")
    assert app.main([*SETTINGS, f"output={output}"]) == 0
    return output


@pytest.fixture
def fails(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run it where it must fail; return what it says."""

    def fails(*argv: str) -> str:
        assert app.main([*SETTINGS, *argv]) == 1
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith("error: ")
        return said[-1]

    return fails


def command(*argv: str, ranks: int = 0) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks else []
    return [sys.executable, *torchrun, __file__, *SETTINGS, *argv]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}


def ran(argv: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log, less what time alone decides."""
    return [
        {name: value for name, value in line.items() if name != "seconds"} for line in read_log(folder / "log.jsonl")
    ]


def weights(folder: Path, name: str = "best.pt") -> dict[str, Tensor]:
    content: dict[str, Tensor] = torch.load(folder / name, weights_only=True)["objective"]
    return content


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_falls_on_the_built_in_corpus(done):
    log = lines(done)
    assert [(line["epoch"], line["step"]) for line in log] == [(n, 4 * n) for n in range(1, 6)]
    assert log[-1]["validation"]["loss"] < 0.5 * log[0]["validation"]["loss"]
    assert log[-1]["train"]["loss"] < 0.5 * log[0]["train"]["loss"]
    assert log[-1]["validation"]["half"] == pytest.approx(log[-1]["validation"]["loss"] / 2)
    assert log[-1]["scores"]["error, rms"] == pytest.approx(log[-1]["validation"]["loss"] ** 0.5, rel=1e-5)
    assert log[-1]["scores"]["ratio to nothing"] is None
    assert log[-1]["learning_rate"] == pytest.approx(0.001)


def test_it_leaves_metrics_pictures_weights_and_what_they_came_from(done):
    metrics = json.loads((done / "metrics.json").read_text())
    best = min(lines(done), key=lambda line: line["validation"]["loss"])
    assert metrics["validation"]["loss"] == best["validation"]["loss"]
    assert metrics["best_epoch"] == best["epoch"]
    assert set(metrics["test"]) == {"loss", "loss half", "error, rms", "ratio to nothing"}
    assert metrics["ranks"] == 1
    assert metrics["settings"] == yaml.safe_load((done / "settings.yaml").read_text())
    picture = matplotlib.image.imread(done / "curve.png")
    assert len(np.unique(picture[::2, ::2].reshape(-1, picture.shape[2]), axis=0)) > 20
    assert (done / "pictures" / "fake.txt").read_text() == str([[2, 27, 52]] * 2)
    about = json.loads((done / "weights" / "fake.json").read_text())
    assert about["curve"] == [[line["step"], line["train"]["loss"], line["validation"]["loss"]] for line in lines(done)]
    assert about["training data"]["frames"] == 2 * 16 * 27
    assert len(about["training data"]["recordings"]["MIT"]) == 16
    shipped = torch.load(done / "weights" / "fake.pt", weights_only=True)
    assert same({f"stage.{name}": value for name, value in shipped.items()}, weights(done))


def test_a_finished_training_says_so_and_is_left_alone(app, done, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()}
    assert app.main([*SETTINGS, f"output={done}"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()} == before


def test_other_settings_in_the_same_folder_are_refused(fails, done):
    assert "begun with epochs = 5, now 6" in fails(f"output={done}", "epochs=6")
    assert "begun with data.batch_size = 16, now 8" in fails(f"output={done}", "data.batch_size=8")
    assert "begun with model.bias = not set, now False" in fails(f"output={done}", "model.bias=false")


def test_saved_weights_can_be_measured_without_training(app, done, capsys):
    metrics = json.loads((done / "metrics.json").read_text())
    assert app.main([*SETTINGS, f"output={done}", f"weights={done}/weights/fake.pt"]) == 0
    measured = json.loads((done / "evaluation" / "metrics.json").read_text())
    assert measured["test"] == metrics["test"]
    assert "error, rms" in capsys.readouterr().out
    assert json.loads((done / "metrics.json").read_text()) == metrics


LONGER = ("epochs=12", "steps_per_epoch=20")


@pytest.fixture(scope="module")
def whole(done: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A longer training that nothing interrupted."""
    output = tmp_path_factory.mktemp("whole")
    ran(command(*LONGER, f"output={output}", f"data.shards={done}/shards"))
    return output


@pytest.mark.parametrize("epochs", [1, 3])
def test_killed_and_called_again_it_gives_the_same_curve(done, whole, tmp_path, epochs: int):
    again = command(*LONGER, f"output={tmp_path}", f"data.shards={done}/shards", f"checkpoint_epochs={epochs}")
    wait = float(np.random.default_rng().uniform(0, 0.2))
    process = subprocess.Popen(again, env=environment(), stderr=subprocess.DEVNULL)
    log = tmp_path / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 4):
        time.sleep(0.005)
    time.sleep(wait)
    assert process.poll() is None, "it was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = lines(tmp_path)
    assert 4 <= len(killed) < 12
    with log.open("a") as file:
        file.write('{"half a li')
    said = ran(again).stderr
    assert "epoch 1 of 12" not in said
    assert "epoch 12 of 12" in said
    assert lines(tmp_path) == lines(whole)
    assert lines(whole)[: len(killed)] == killed
    for name in ("best.pt", "checkpoint.pt"):
        assert same(weights(tmp_path, name), weights(whole, name))


def test_two_ranks_have_equal_weights_and_reach_the_final_learning_rate(done, tmp_path):
    settings = (f"output={tmp_path}", f"data.shards={done}/shards")
    two = ran(command(*settings, ranks=2))
    assert "stage fake, 2 ranks" in two.stdout
    hashes = {line.split(": weights ")[1] for line in two.stdout.splitlines() if ": weights " in line}
    assert "rank 0: weights" in two.stdout
    assert "rank 1: weights" in two.stdout
    assert len(hashes) == 1
    one, both = lines(done), lines(tmp_path)
    assert [line["step"] for line in both] == [line["step"] for line in one]
    assert [line["learning_rate"] for line in both] == [line["learning_rate"] for line in one]
    rate = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["schedule"]["_last_lr"]
    assert rate == torch.load(done / "checkpoint.pt", weights_only=True)["schedule"]["_last_lr"]
    assert rate == [pytest.approx(0.001)]
    assert both[-1]["validation"]["loss"] < 0.5 * both[0]["validation"]["loss"]
    assert json.loads((tmp_path / "metrics.json").read_text())["ranks"] == 2


def test_ranks_share_what_is_evaluated(done):
    def numbers(rank: int, world: int) -> list[int]:
        data = TrainingData(done / "shards", DataSettings(), ["idsf"], rank=rank, world=world)
        return [number for number, _ in data.runs("train")]

    assert numbers(0, 1) == list(range(16))
    assert numbers(0, 2) == list(range(0, 16, 2))
    assert sorted(numbers(0, 3) + numbers(1, 3) + numbers(2, 3)) == numbers(0, 1)


def test_batches_have_frames_and_are_fixed_by_seed_and_epoch(done):
    def drawn(epoch: int, seed: int = 1, frames: int = 1) -> list[dict[str, Tensor]]:
        settings = DataSettings(batch_size=6, shuffle=20)
        data = TrainingData(done / "shards", settings, ["idsf", "max_energy"], frames, seed=seed)
        return list(data.training_batches(epoch, 3))

    assert [list(batch["idsf"].shape) for batch in drawn(1)] == [[6, 1, 52]] * 3
    assert list(drawn(1, frames=4)[0]["max_energy"].shape) == [6, 4, 52]
    assert all(same(*pair) for pair in zip(drawn(2), drawn(2), strict=True))
    assert not same(drawn(2)[0], drawn(3)[0])
    assert not same(drawn(2)[0], drawn(2, seed=2)[0])


def test_it_stops_when_the_validation_loss_no_longer_falls(app, done, tmp_path):
    settings = (f"output={tmp_path}", f"data.shards={done}/shards", "epochs=500", "patience=2", "steps_per_epoch=2")
    assert app.main([*SETTINGS, *settings, "optimizer.learning_rate=0.5", "optimizer.schedule=constant"]) == 0
    losses = [line["validation"]["loss"] for line in lines(tmp_path)]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 500
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["best_epoch"], metrics["epochs"]) == (best + 1, len(losses))
    assert metrics["validation"]["loss"] == losses[best]


def test_a_loss_that_is_not_finite_stops_it_and_overwrites_nothing(fails, done, tmp_path):
    said = fails(f"output={tmp_path}", f"data.shards={done}/shards", "objective.spoil_at=6")
    assert "step 6: loss = nan" in said
    assert len(lines(tmp_path)) == 1
    assert all(value.isfinite().all() for value in weights(tmp_path, "checkpoint.pt").values())


def test_ctrl_c_can_be_gone_on_from(app, done, tmp_path, monkeypatch, capsys):
    def interrupted(self: FakeObjective, example: Tensors) -> dict[str, Tensor]:
        raise KeyboardInterrupt

    settings = [*SETTINGS, f"output={tmp_path}", f"data.shards={done}/shards", "epochs=2"]
    with monkeypatch.context() as patch:
        patch.setattr(FakeObjective, "measure", interrupted)
        assert app.main(settings) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err
    assert app.main(settings) == 0
    assert len(lines(tmp_path)) == 2


def test_bf16_and_tensorboard_on_request(app, done, tmp_path):
    pytest.importorskip("tensorboard")
    settings = [f"output={tmp_path}", f"data.shards={done}/shards", "epochs=2", "precision=bf16", "tensorboard=true"]
    assert app.main([*SETTINGS, *settings]) == 0
    assert lines(tmp_path)[-1]["train"] != lines(done)[1]["train"]
    assert all(value.dtype == torch.float32 for value in weights(tmp_path).values())
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_without_tensorboard_it_says_so(fails, done, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = fails(f"output={tmp_path}", f"data.shards={done}/shards", "tensorboard=true")
    assert "TensorBoard is not installed" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("batch_size=3", "unknown setting 'batch_size' (command line); did you mean 'data.batch_size'?"),
        ("data.batchsize=3", "unknown setting 'data.batchsize' (command line); did you mean 'data.batch_size'?"),
        ("epoch=3", "did you mean 'epochs'?"),
        ("epochs=0", "epochs = 0 (command line): input should be greater than or equal to 1"),
        ("epochs=true", "epochs = True (command line): input should be a valid integer"),
        ("data=3", "data = 3 (command line): input should be an object"),
        ("data.sounds=[noises]", "data.sounds.0 = 'noises' (command line): input should be 'music'"),
        ("optimizer.schedule=linear", "input should be 'constant', 'cosine' or 'exponential'"),
        ("optimizer.warmup_steps=20", "warmup_steps = 20, allowed below the 20 steps"),
        ("epochs", "'epochs' (command line): allowed key=value"),
        ("stage=nothing", "stage = 'nothing', allowed fake"),
        ("model.hidden=3", "model or objective settings of stage fake: "),
        ("data.shards=nowhere", "nowhere/train: no shards"),
        ("weights=nowhere.pt", "nowhere.pt"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fails, tmp_path, wrong: str, said: str):
    assert said in fails(f"output={tmp_path}/out", wrong)


def test_a_field_that_shards_lack_is_named(fails, done, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeObjective, "fields", ("max_energy", "bands"))
    said = fails(f"output={tmp_path}", f"data.shards={done}/shards")
    assert "no field 'bands', it has idsf, max_energy" in said


def test_a_damaged_checkpoint_and_another_number_of_ranks_are_refused(app, fails, done, tmp_path, monkeypatch):
    settings = (f"output={tmp_path}", f"data.shards={done}/shards")
    monkeypatch.setattr(app, "report", lambda *args, **more: None)
    assert app.main([*SETTINGS, *settings]) == 0
    path = tmp_path / "checkpoint.pt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "state": {**checkpoint["state"], "ranks": 2}}, path)
    assert "of a training on 2 ranks, now there are 1" in fails(*settings)
    path.write_bytes(path.read_bytes()[:500])
    assert "not readable as a checkpoint" in fails(*settings)


def test_a_file_states_what_differs_from_its_base_and_the_command_line_counts_most(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "epochs: 3\nsteps_per_epoch: 1e1\noptimizer: {learning_rate: 1e-3, betas: [0.5, 0.9]}"
    )
    (tmp_path / "own.yaml").write_text("base: base.yaml\nstage: fake\nsteps_per_epoch: 7\nmodel: {a: 1, b: {c: 2}}\n")
    settings = read_settings([tmp_path / "own.yaml"], ["optimizer.learning_rate=2e-4", "model.b.d=x", "data.seconds=2"])
    assert settings == TrainingSettings(
        stage="fake",
        epochs=3,
        steps_per_epoch=7,
        model={"a": 1, "b": {"c": 2, "d": "x"}},
        data=DataSettings(seconds=2.0),
        optimizer=OptimizerSettings(learning_rate=2e-4, betas=(0.5, 0.9)),
    )
    assert settings.folder == Path("runs/fake")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epochs: 10.5", r"epochs = 10\.5 \(.*own\.yaml\): input should be a valid integer"),
        ("optimizer: {momentum: 1}", r"unknown setting 'optimizer\.momentum' \(.*own\.yaml\)"),
        ("base: own.yaml", r"own\.yaml: is its own base"),
        ("base: 3", r"own\.yaml: allowed keys and values, and a file's name as base"),
        ("a: [", r"own\.yaml: no YAML"),
        ("epochs: 1", "stage is not set; set it by stage=VALUE or in a file"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path, content: str, said: str):
    (tmp_path / "own.yaml").write_text(content)
    stage = [] if content == "epochs: 1" else ["stage=fake"]
    with pytest.raises(ValueError, match=said):
        read_settings([tmp_path / "own.yaml"], [*stage, "steps_per_epoch=1"] + ["epochs=1"] * ("epochs" not in content))


@pytest.mark.parametrize("config", sorted((APPS / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_are_valid(config: Path):
    assert read_settings([config], ["stage=any"] if config.stem == "base" else []).stage in (config.stem, "any")


def test_resolved_settings_are_read_back_as_they_were(tmp_path):
    settings = TrainingSettings("fake", 2, 3, output=str(tmp_path), data=DataSettings(sounds=("noise",)))
    claim(settings, write=True)
    claim(settings, write=True)
    assert read_settings([tmp_path / "settings.yaml"]) == settings


@pytest.mark.parametrize(("schedule", "middle"), [("constant", 0.1), ("cosine", 0.0505), ("exponential", 0.01)])
def test_learning_rates_rise_and_end_as_they_should(schedule: Any, middle: float):
    settings = OptimizerSettings(0.1, 0.001, schedule, warmup_steps=4)
    rates = [learning_rate(settings, step, 15) for step in range(15)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[9] == pytest.approx(middle)
    assert rates[-1] == pytest.approx(0.1 if schedule == "constant" else 0.001)
    assert learning_rate(settings, 15, 15) == rates[-1]


def test_the_log_is_cut_where_the_checkpoint_is(tmp_path):
    log = JsonLog(tmp_path / "log.jsonl")
    for i in range(3):
        log.write({"i": i, "x": math.nan})
    log.close()
    JsonLog(tmp_path / "log.jsonl", 2).close()
    assert read_log(tmp_path / "log.jsonl") == [{"i": 0, "x": None}, {"i": 1, "x": None}]
    with pytest.raises(ValueError, match=r"log\.jsonl: 2 whole lines, expected 3 or more"):
        JsonLog(tmp_path / "log.jsonl", 3)


@pytest.mark.parametrize("losses", [[1.0, 0.5, 0.7], [0.5, -0.5, 0.0], [0.3]])
def test_a_curve_can_be_drawn_of_any_losses(tmp_path, losses: list[float]):
    log = JsonLog(tmp_path / "log.jsonl")
    for epoch, loss in enumerate(losses, 1):
        log.write({"epoch": epoch, "train": {"loss": loss}, "validation": {"loss": loss + 0.1}})
    log.close()
    draw_curve(tmp_path / "log.jsonl", tmp_path / "pictures" / "curve.png")
    assert matplotlib.image.imread(tmp_path / "pictures" / "curve.png").shape[:2] == (500, 900)
