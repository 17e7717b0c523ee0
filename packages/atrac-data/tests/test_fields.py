from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from atrac_codec.outside import load_pytrac
from atrac_data import FIELDS
from atrac_data.fields import check_fields

README = Path(__file__).parents[1] / "README.md"


def test_types_are_little_endian_and_small():
    for name, field in FIELDS.items():
        assert field.dtype.str in ("<f4", "<i2", "|u1"), name
        assert field.shape in ((), (3,), (52,), (212,), (512,)), name


def test_a_frame_of_one_channel_has_17940_bytes():
    assert sum(field.dtype.itemsize * int(np.prod(field.shape)) for field in FIELDS.values()) == 17940


def test_the_readme_lists_every_field_as_it_is():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", README.read_text(encoding="utf-8"), re.M)
    kinds = {name: f"{field.dtype.name} {list(field.shape)}" for name, field in FIELDS.items()}
    assert [(name, kind) for name, kind, _, _ in rows] == list(kinds.items())
    for name, _, what, pytrac in rows:
        assert what == FIELDS[name].what
        assert pytrac.replace("`", "") == FIELDS[name].pytrac


def test_no_names_are_all_names_in_their_order():
    assert check_fields(()) == tuple(FIELDS)
    assert check_fields(["bsm", "pcm"]) == ("bsm", "pcm")


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(ValueError, match=r"field 'spectra', allowed pcm, bands, .*dec_pcm"):
        check_fields(["pcm", "spectra"])
    with pytest.raises(ValueError, match="fields pcm, pcm: each allowed once"):
        check_fields(["pcm", "pcm"])


@pytest.mark.pytrac
def test_every_intermediate_of_pytrac_is_a_field_or_named_as_a_repetition():
    try:
        pytrac = load_pytrac()
    except ImportError as error:
        pytest.skip(str(error))
    encoder = {"compressed_data_per_channel"} | set(
        re.findall(r"\w+", " ".join(f.pytrac for f in FIELDS.values() if not f.pytrac.startswith("decoder")))
    )
    own = {n for n in dir(pytrac.EncoderIntermediateData) if not n.startswith(("_", "enc_log_count_"))}
    assert own <= encoder
    repeated = {
        "window_mask", "block_size_log_count", "bits_per_bfu", "scale_factor_indices", "parsed_quantized_values",
        "compressed_input",
    }  # fmt: skip
    decoder = {"mdct_specs", "qmf_low", "qmf_mid", "qmf_hi", "pcm_output"}
    theirs = {n for n in dir(pytrac.DecoderIntermediateData) if not n.startswith(("_", "placeholder_"))}
    assert theirs == decoder | repeated
