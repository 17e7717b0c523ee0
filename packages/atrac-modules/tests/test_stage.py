from __future__ import annotations

import pytest
import torch
from torch import nn

import atrac_modules
from atrac_modules import FrameBatch, ReferenceDequantizer, ReferenceQmf, ReferenceScaler, ShapeError, Stage

CLASSES = [c for c in vars(atrac_modules).values() if isinstance(c, type) and issubclass(c, Stage)]
STAGES = [c for c in CLASSES if c.__name__.startswith(("Reference", "BitExact"))]
ROLES = [c for c in CLASSES if Stage in c.__bases__]


def test_there_are_nine_roles_and_the_loudness():
    assert len(ROLES) == 10
    assert len(STAGES) == 10 + 7


@pytest.mark.parametrize("role", ROLES)
def test_roles_are_abstract(role: type[Stage]):
    with pytest.raises(TypeError, match="abstract"):
        role()


@pytest.mark.parametrize("stage", STAGES)
def test_stages_are_final_and_belong_to_one_role(stage: type[Stage]):
    assert getattr(stage, "__final__", False)
    assert [base for base in stage.__bases__ if base in ROLES] == list(stage.__bases__)


@pytest.mark.parametrize("stage", STAGES)
def test_tables_move_with_the_module_and_are_not_saved(stage: type[Stage]):
    module = stage()
    assert not module.state_dict()
    moved = module.to("meta")
    assert all(b.device.type == "meta" for b in moved.buffers())


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
