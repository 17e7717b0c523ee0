from __future__ import annotations

import pytest
import torch

import atrac_modules as m

CLASSES = [c for c in vars(m).values() if isinstance(c, type) and issubclass(c, m.Stage)]
STAGES = [c for c in CLASSES if c.__name__.startswith(("Reference", "BitExact", "RateDistortion"))]
LEARNED = [c for c in CLASSES if c.__name__.startswith("Neural")]
ROLES = [c for c in CLASSES if m.Stage in c.__bases__]
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
"""Shapes of the inputs of each role, two frames or one."""
SETTINGS = {
    m.NeuralDequantizer: {"hidden": 8, "neighbours": 3},
    m.NeuralRateDistortionAllocator: {"hidden": 8},
    m.NeuralTransient: {"taps": 9},
}
"""Settings of stages that have some, other than the defaults."""


def role_of(stage: type[m.Stage]) -> str:
    """Return the name of a stage's role."""
    (role,) = stage.__bases__
    return role.__name__


def tensors_of(result) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(vars(result).values())


def test_every_role_has_reference_and_learned_stages():
    assert {role.__name__ for role in ROLES} == set(INPUTS)
    assert {c.__name__ for c in STAGES} >= {"Reference" + role for role in INPUTS}
    assert {c.__name__ for c in LEARNED} >= {"Neural" + role for role in INPUTS if role != "Loudness"}


@pytest.mark.parametrize("stage", STAGES)
def test_tables_move_with_the_module_and_are_not_saved(stage: type[m.Stage]):
    module = stage()
    assert not module.state_dict()
    assert all(b.device.type == "meta" for b in module.to("meta").buffers())


@pytest.mark.parametrize("stage", LEARNED)
def test_a_learned_stage_is_rebuilt_from_settings_weights_and_seed(stage: type[m.Stage], build):
    module = build(stage, **SETTINGS.get(stage, {}))
    weights = module.state_dict()
    taken_over = {"log2_scale_factors"} if stage is m.NeuralQuantizer else set()
    assert set(weights) == {name for name, _ in module.named_parameters()} | taken_over
    assert all(weight.requires_grad for weight in module.parameters())
    same = build(stage, **module.settings).state_dict()
    assert all(torch.equal(same[name], weights[name]) for name in weights), "weights come from torch's generator"
    again = build(stage, 7, **module.settings)
    assert any(not torch.equal(again.state_dict()[name], weights[name]) for name in weights), "another seed"
    again.load_state_dict(weights)
    inputs = [torch.ones(shape) for shape in INPUTS[role_of(stage)]]
    for got, want in zip(tensors_of(again(*inputs)), tensors_of(module(*inputs)), strict=True):
        assert torch.equal(got, want)
    assert all(x.device.type == "meta" for x in [*module.to("meta").buffers(), *module.parameters()])


@pytest.mark.parametrize("stage", [c for c in STAGES + LEARNED if not c.__name__.startswith("BitExact")])
@pytest.mark.parametrize(("own", "given"), [("float32", "float64"), ("float64", "float32")])
def test_results_have_the_precision_of_the_inputs_not_of_the_weights(stage, own: str, given: str, build):
    dtype, module = getattr(torch, given), build(stage, **SETTINGS.get(stage, {})).to(getattr(torch, own))
    results = tensors_of(module(*(torch.ones(shape, dtype=dtype) for shape in INPUTS[role_of(stage)])))
    assert all(result.dtype == dtype for result in results)


def test_half_precision_is_widened_before_anything_is_lost(generator):
    pcm = torch.rand(1024, generator=generator).bfloat16()
    assert torch.equal(m.ReferenceQmf()(pcm), m.ReferenceQmf()(pcm.float()))


def test_whole_numbers_stay_whole_under_autocast():
    # bfloat16 has 8 bits of mantissa: 257 would become 256.
    rest = torch.full((1, 52), 63.0), torch.full((1, 52), 15.0), torch.zeros(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        spectrum = m.ReferenceDequantizer()(torch.full((1, 512), 257.0), *rest)
    assert spectrum[0, 0].item() == pytest.approx(257 / 32767, rel=1e-6)


def test_shape_error_says_what_arrived_and_what_was_expected():
    with pytest.raises(m.ShapeError) as caught:
        m.ReferenceScaler()(torch.zeros(2, 500), torch.zeros(2, 3))
    assert str(caught.value) == "spectrum is [2, 500], expected [*, F, 512]"
