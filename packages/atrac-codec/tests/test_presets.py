from __future__ import annotations

import pytest

from atrac_codec import DECODERS, DEFAULT, ENCODERS, build_decoder, build_encoder


@pytest.mark.parametrize("preset", ENCODERS)
def test_encoders_have_the_stages_of_their_table(preset: str):
    encoder = build_encoder(preset)
    assert {role: type(stage) for role, stage in encoder.named_children()} == ENCODERS[preset]


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_have_the_stages_of_their_table(name: str):
    decoder = build_decoder(name)
    assert {role: type(stage) for role, stage in decoder.named_children()} == DECODERS[name]


def test_default_is_there():
    assert DEFAULT in ENCODERS
    assert "standard" in DECODERS
