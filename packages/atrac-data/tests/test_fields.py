from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from atrac_codec.outside import load_pytrac
from atrac_data import FIELDS
from atrac_data.fields import check_fields


def test_types_are_little_endian_and_a_frame_of_one_channel_has_17940_bytes():
    assert {field.dtype.str for field in FIELDS.values()} == {"<f4", "<i2", "|u1"}
    assert sum(field.dtype.itemsize * int(np.prod(field.shape)) for field in FIELDS.values()) == 17940


def test_the_readme_lists_every_field_as_it_is():
    readme = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", readme.replace("`, `", ", "), re.M)
    assert [(name, kind, what, pytrac.replace("`", "")) for name, kind, what, pytrac in rows] == [
        (name, f"{one.dtype.name} {list(one.shape)}", one.what, one.pytrac) for name, one in FIELDS.items()
    ]


def test_names_are_checked_and_none_are_all():
    assert check_fields(()) == tuple(FIELDS)
    assert check_fields(["bsm", "pcm"]) == ("bsm", "pcm")
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
    named = re.findall(r"\w+", " ".join(f.pytrac for f in FIELDS.values() if not f.pytrac.startswith("decoder")))
    own = {n for n in dir(pytrac.EncoderIntermediateData) if not n.startswith(("_", "enc_log_count_"))}
    assert own <= {"compressed_data_per_channel", *named}
    theirs = {n for n in dir(pytrac.DecoderIntermediateData) if not n.startswith(("_", "placeholder_"))}
    assert theirs == {
        "mdct_specs", "qmf_low", "qmf_mid", "qmf_hi", "pcm_output",
        "window_mask", "block_size_log_count", "bits_per_bfu", "scale_factor_indices", "parsed_quantized_values",
        "compressed_input",
    }  # fmt: skip
