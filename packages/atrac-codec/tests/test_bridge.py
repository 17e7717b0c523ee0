from __future__ import annotations

import numpy as np
import pytest
import torch

from atrac_bitstream import AeaReader, AtracError, SoundUnitError, UnitArrays, unpack_units
from atrac_codec import (
    atrac_params_to_neural_outputs,
    build_decoder,
    build_encoder,
    from_aea,
    from_units,
    neural_outputs_to_atrac_params,
    to_aea,
    to_units,
)
from atrac_codec.bridge import device_of


def test_golden_units_go_through_tensors_unchanged(golden):
    batch = from_units(golden.units)
    assert all(f.dtype == torch.float32 for f in batch)
    assert np.array_equal(to_units(batch), golden.units)
    as_integers = batch.map(lambda f: f.to(torch.int32))
    assert np.array_equal(to_units(as_integers), golden.units)


def test_golden_units_go_through_a_file_unchanged(golden, tmp_path):
    batch = from_units(golden.units).map(lambda f: f.transpose(0, 1))
    path = tmp_path / "x.aea"
    path.write_bytes(to_aea(batch, samples=123, title="golden"))
    with AeaReader(path) as reader:
        assert (reader.header.title, reader.header.samples) == ("golden", 123)
        assert np.array_equal(reader.read(), golden.units)
    again, samples = from_aea(path.read_bytes())
    assert samples == 123
    assert all(torch.equal(a, b) for a, b in zip(again, batch, strict=True))


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf")])
def test_what_is_no_whole_number_is_refused_with_its_place(value: float, golden):
    batch = from_units(golden.units)
    batch.idsf[3, 0, 7] = value
    with pytest.raises(SoundUnitError, match=rf"idsf\[3, 0, 7\] = {value}, allowed whole numbers"):
        to_units(batch)


def test_what_does_not_fit_its_field_is_refused_with_its_place(golden):
    batch = from_units(golden.units)
    batch.idwl[2, 0, 0] = 16
    with pytest.raises(SoundUnitError, match=r"idwl\[0\] = 16, allowed 0..15 with n_bfu = \d+ \(sound unit \[2, 0\]\)"):
        to_units(batch)


def test_damage_is_named_by_its_place_in_the_recording(golden):
    units = golden.units.copy()
    units[4, 0, 0] = 0xFF
    with pytest.raises(SoundUnitError, match=r"sound unit \[104, 0\]"):
        from_units(units, first=100)


def test_foreign_bytes_are_an_atrac_error():
    with pytest.raises(AtracError):
        from_aea(b"RIFF" + bytes(3000))


def test_device_is_that_of_the_tables():
    decoder = build_decoder()
    assert device_of(decoder) == torch.device("cpu")
    assert device_of(decoder.to("meta")) == torch.device("meta")


def test_what_a_neural_encoder_decides_becomes_integers_and_comes_back(golden):
    pcm = torch.from_numpy(golden.pcm[:, : 512 * 20])[None].requires_grad_()
    batch = build_encoder("neural-stages")(pcm)
    params = neural_outputs_to_atrac_params(batch)
    assert isinstance(params, UnitArrays)
    assert all(field.dtype == np.int32 for field in params)
    again = atrac_params_to_neural_outputs(params)
    assert all(torch.equal(a, b) for a, b in zip(again, batch, strict=True))
    assert not any(field.requires_grad for field in again)
    packed = unpack_units(to_units(batch))
    assert all(np.array_equal(a, b) for a, b in zip(params, packed, strict=True))
    assert all(field.is_meta for field in atrac_params_to_neural_outputs(params, "meta"))
