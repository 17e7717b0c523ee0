from __future__ import annotations

import pytest
import torch
from torch import nn

import atrac_modules
from atrac_modules import (
    FrameBatch,
    NeuralAllocator,
    NeuralDequantizer,
    NeuralImdct,
    NeuralIqmf,
    NeuralMdct,
    NeuralQmf,
    NeuralQuantizer,
    NeuralTransient,
    ReferenceDequantizer,
    ReferenceQmf,
    ReferenceScaler,
    ShapeError,
    Stage,
)

CLASSES = [c for c in vars(atrac_modules).values() if isinstance(c, type) and issubclass(c, Stage)]
STAGES = [c for c in CLASSES if c.__name__.startswith(("Reference", "BitExact", "RateDistortion"))]
LEARNED = [c for c in CLASSES if c.__name__.startswith("Neural")]
ROLES = [c for c in CLASSES if Stage in c.__bases__]
INPUTS = {
    "Qmf": [(512,)],
    "Transient": [(2, 512)],
    "Mdct": [(2, 512), (2, 3)],
    "Scaler": [(2, 512), (2, 3)],
    "Allocator": [(2, 512), (2, 52), (2, 3)],
    "Quantizer": [(2, 512), (2, 52), (2, 52), (2, 3)],
    "Dequantizer": [(2, 512), (2, 52), (2, 52), (2, 3)],
    "Imdct": [(2, 512), (2, 3)],
    "Iqmf": [(2, 512)],
    "Loudness": [(1, 2, 2, 512), (1, 2, 2, 3)],
}
"""Shapes of what each role takes, two frames or one."""


def test_there_are_nine_roles_and_the_loudness():
    assert len(ROLES) == 10
    assert len(STAGES) == 10 + 7 + 2  # those that search
    assert {role_of(c) for c in LEARNED} == set(INPUTS) - {"Loudness"}
    assert {c.__name__ for c in LEARNED} >= {"Neural" + role for role in set(INPUTS) - {"Loudness"}}


def role_of(stage: type[Stage]) -> str:
    """Return the name of the role that a stage plays."""
    (role,) = stage.__bases__
    return role.__name__


def vars_of(result) -> list[torch.Tensor]:
    """Return the tensors of a stage's result."""
    return [result] if isinstance(result, torch.Tensor) else list(vars(result).values())


@pytest.mark.parametrize("role", ROLES)
def test_roles_are_abstract(role: type[Stage]):
    with pytest.raises(TypeError, match="abstract"):
        role()


@pytest.mark.parametrize("stage", STAGES + LEARNED)
def test_stages_are_final_and_belong_to_one_role(stage: type[Stage]):
    assert getattr(stage, "__final__", False)
    assert [base for base in stage.__bases__ if base in ROLES] == list(stage.__bases__)


@pytest.mark.parametrize("stage", STAGES)
def test_tables_move_with_the_module_and_are_not_saved(stage: type[Stage]):
    module = stage()
    assert not module.state_dict()
    moved = module.to("meta")
    assert all(b.device.type == "meta" for b in moved.buffers())


@pytest.mark.parametrize("stage", LEARNED)
def test_a_learned_stage_saves_its_weights_alone_and_comes_back_from_them(stage: type[Stage], build):
    module = build(stage)
    weights = module.state_dict()
    taken_over = {"log2_scale_factors"} if stage is NeuralQuantizer else set()
    assert set(weights) == {name for name, _ in module.named_parameters()} | taken_over
    assert all(weight.requires_grad for weight in module.parameters())
    again = build(stage, 7, **module.settings)
    assert any(not torch.equal(again.state_dict()[name], weights[name]) for name in weights), "another seed"
    again.load_state_dict(weights)
    inputs = [torch.ones(shape) for shape in INPUTS[role_of(stage)]]
    for got, want in zip(vars_of(again(*inputs)), vars_of(module(*inputs)), strict=True):
        assert torch.equal(got, want)
    assert all(x.device.type == "meta" for x in [*module.to("meta").buffers(), *module.parameters()])


@pytest.mark.parametrize("stage", LEARNED)
def test_random_weights_come_from_torchs_generator(stage: type[Stage], build):
    first, again = (build(stage, 3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_settings_of_a_learned_stage_rebuild_it(build):
    for module in (build(NeuralDequantizer, hidden=8, neighbours=3), build(NeuralTransient, taps=9)):
        type(module)(**module.settings).load_state_dict(module.state_dict())


def test_as_many_numbers_are_learned_as_the_docstrings_say():
    for stage, unit in (
        (NeuralQmf, "taps"),
        (NeuralIqmf, "taps"),
        (NeuralMdct, "weights"),
        (NeuralImdct, "weights"),
        (NeuralAllocator, "numbers"),
        (NeuralTransient, "numbers"),
    ):
        count = sum(weight.numel() for weight in stage().parameters())
        assert f"{count:,} {unit}" in " ".join((stage.__doc__ or "").split())


@pytest.mark.parametrize(
    "stage", [*(c for c in STAGES + LEARNED if not c.__name__.startswith("BitExact")), "corrected"]
)
@pytest.mark.parametrize(("own", "given"), [("float32", "float64"), ("float64", "float32")])
def test_results_have_the_precision_of_the_inputs_not_of_the_weights(stage, own: str, given: str, build):
    if stage == "corrected":
        module, role = build(NeuralDequantizer, hidden=8), "Dequantizer"
    else:
        module, role = build(stage), role_of(stage)
    dtype = getattr(torch, given)
    results = vars_of(module.to(getattr(torch, own))(*(torch.ones(s, dtype=dtype) for s in INPUTS[role])))
    assert all(result.dtype == dtype for result in results)


def test_half_precision_is_widened_before_anything_is_lost(generator):
    pcm = torch.rand(1024, generator=generator).bfloat16()
    assert torch.equal(ReferenceQmf()(pcm), ReferenceQmf()(pcm.float()))


def test_whole_numbers_stay_whole_under_autocast():
    # bfloat16 has 8 bits of mantissa: 257 would become 256.
    quantized = torch.full((1, 512), 257.0)
    rest = torch.full((1, 52), 63.0), torch.full((1, 52), 15.0), torch.zeros(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        spectrum = ReferenceDequantizer()(quantized, *rest)
    assert spectrum[0, 0].item() == pytest.approx(257 / 32767, rel=1e-6)


def test_shape_error_says_what_arrived_and_what_was_expected():
    with pytest.raises(ShapeError) as caught:
        ReferenceScaler()(torch.zeros(2, 500), torch.zeros(2, 3))
    assert str(caught.value) == "spectrum is [2, 500], expected [*, F, 512]"
    assert caught.value.expected == "[*, F, 512]"
    assert tuple(caught.value.actual) == (2, 500)


def test_frame_batch_maps_and_iterates_over_its_five_fields():
    batch = FrameBatch(*(torch.full((2, n), float(n)) for n in (3, 1, 52, 52, 512)))
    assert [f.shape[-1] for f in batch] == [3, 1, 52, 52, 512]
    assert [f.item() for f in batch.map(torch.mean)] == [3, 1, 52, 52, 512]


def test_parameters_of_a_learned_sibling_would_be_saved():
    class Learned(ReferenceQmf.__bases__[0]):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, pcm: torch.Tensor) -> torch.Tensor:
            return pcm

    assert set(Learned().state_dict()) == {"weight"}
