"""The trace of a recording: the same fields however it is cut into runs, and in sound units what was decided."""

from __future__ import annotations

import pytest
import torch

from atrac_codec import build_decoder, build_encoder, to_units
from atrac_codec.trace import BATCH_FIELDS, STAGE_OF_FIELD, Tracer, trace
from atrac_modules import FrameBatch


@pytest.mark.parametrize("sizes", [(20,), (3, 2, 1, 14), (10, 10)])
def test_runs_join_to_the_trace_of_the_whole_recording(sizes: tuple[int, ...], sound):
    pcm = torch.from_numpy(sound(512 * 20))
    encoder, decoder = build_encoder("bitexact"), build_decoder("bitexact")
    with torch.no_grad():
        whole = {name: field[0] for name, field in trace(encoder, decoder, pcm[None]).items()}
    tracer = Tracer(encoder, decoder)
    runs = [tracer.push(run) for run in pcm.split([512 * size for size in sizes], dim=1)]
    assert [run.lead for run in runs] == [0] + [2] * (len(sizes) - 1)
    joined = {name: torch.cat([run.own[name] for run in runs], 1) for name in runs[0].fields}
    assert joined.keys() == {"pcm", *STAGE_OF_FIELD}
    assert torch.equal(joined.pop("pcm").flatten(1), pcm)
    units = torch.from_numpy(to_units(FrameBatch(*(whole[name] for name in BATCH_FIELDS))))
    assert torch.equal(joined.pop("units"), units)
    assert joined.keys() == whole.keys()
    for name, field in joined.items():
        assert torch.equal(field, whole[name]), name


def test_fields_have_gradients(sound):
    pcm = torch.from_numpy(sound(512 * 6))[None].requires_grad_()
    fields = trace(build_encoder("reference"), build_decoder(), pcm)
    (gradient,) = torch.autograd.grad(fields["dec_pcm"].square().sum(), pcm)
    assert gradient.any()
