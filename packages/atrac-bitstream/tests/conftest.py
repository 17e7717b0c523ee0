"""Golden sound units, generated legal ones, and folders for files, for all tests beside this."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from atrac_bitstream import AeaHeader, SoundUnit, UnitArrays, readable_value_bits
from atrac_bitstream import tables as t

GOLDEN = Path(__file__).parent / "golden" / "units.npz"
SIGNALS = (
    "clicks_stereo",
    "dc_nyquist_mono",
    "fullscale_square_stereo",
    "impulse_mono",
    "multitone_stereo",
    "music_stereo",
    "pinknoise_stereo",
    "quiet_noise_mono",
    "silence_stereo",
    "sweep_mono",
    "voice_mono",
)


Golden = tuple[NDArray[np.uint8], UnitArrays]
"""Sound units of one signal [F, C, 212] and the fields that their encoder wrote into them."""


@pytest.fixture(scope="session")
def all_golden() -> dict[str, Golden]:
    """Read the golden file; a missing one is a failure."""
    result = {}
    with np.load(GOLDEN) as file:
        for signal in SIGNALS:
            n_bfu = file[f"{signal}.n_bfu"].astype(np.int64)
            carried = np.arange(52) < n_bfu[..., None]
            word_length = file[f"{signal}.word_length"].astype(np.int64)
            fields = UnitArrays(
                bsm=file[f"{signal}.bsm"].astype(np.int64),
                n_bfu=n_bfu,
                idwl=np.where(word_length > 0, word_length - 1, 0),
                idsf=np.where(carried, file[f"{signal}.scale_factor_idx"], 0),
                quantized=file[f"{signal}.quantized"].astype(np.int64),
            )
            result[signal] = file[f"{signal}.sound_units"], fields
    return result


@pytest.fixture(params=SIGNALS)
def golden(request: pytest.FixtureRequest, all_golden: dict[str, Golden]) -> Golden:
    return all_golden[request.param]


@pytest.fixture(scope="session")
def golden_units(all_golden: dict[str, Golden]) -> NDArray[np.uint8]:
    """All golden sound units [n, 212]."""
    return np.concatenate([units.reshape(-1, 212) for units, _ in all_golden.values()])


@pytest.fixture(scope="session")
def stereo(all_golden: dict[str, Golden]) -> NDArray[np.uint8]:
    """Some frames in stereo [9, 2, 212]."""
    return all_golden["clicks_stereo"][0]


@pytest.fixture(scope="session")
def aea_bytes(stereo: NDArray[np.uint8]) -> bytes:
    """An AEA file of those frames."""
    return AeaHeader.make(2, stereo.shape[0] * 2, "golden").data + stereo.tobytes()


@st.composite
def _legal_units(draw: st.DrawFn) -> SoundUnit:
    bsm = draw(st.tuples(st.sampled_from((0, 2)), st.sampled_from((0, 2)), st.sampled_from((0, 3))))
    n_bfu = draw(st.sampled_from(t.BFU_AMOUNTS))
    idwl = draw(st.lists(st.integers(0, 15), min_size=n_bfu, max_size=n_bfu))
    idsf = draw(st.lists(st.integers(0, 63), min_size=n_bfu, max_size=n_bfu))
    pool = int.from_bytes(draw(st.binary(min_size=212, max_size=212)), "big")

    used, quantized = 0, [0] * 512
    for bfu, index in enumerate(idwl):
        size, width = int(t.BFU_SIZES[bfu]), index + 1 if index else 0
        if used + size * width > readable_value_bits(n_bfu):
            idwl[bfu] = width = 0
        starts = t.BFU_STARTS_SHORT if bsm[t.BFU_BANDS[bfu]] else t.BFU_OFFSETS
        for k in range(int(starts[bfu]), int(starts[bfu]) + size if width else 0):
            quantized[k] = (pool >> used & (1 << width) - 1) - (1 << width - 1)
            used += width

    fields = "1" * 6 + "00" + "111" + "00000" + "1" * (10 * n_bfu + used)
    outside = (1 << 1696) - 1 - int(fields.ljust(1696, "0"), 2)
    residue = draw(st.just(0) | st.binary(min_size=212, max_size=212).map(lambda b: int.from_bytes(b, "big")))
    absent = (0,) * (52 - n_bfu)
    return SoundUnit(
        bsm=bsm,
        n_bfu=n_bfu,
        idwl=(*idwl, *absent),
        idsf=(*idsf, *absent),
        quantized=tuple(quantized),
        residue=(residue & outside).to_bytes(212, "big") if residue & outside else b"",
    )


@pytest.fixture(scope="session")
def legal_units() -> st.SearchStrategy[SoundUnit]:
    """Any legal sound unit, with codes below -(2 ** (w - 1) - 1), reserved bits and tails too."""
    return _legal_units()


@pytest.fixture(scope="session")
def silence() -> Callable[..., SoundUnit]:
    """Make a silent sound unit in which some fields are replaced."""

    def make(**fields: object) -> SoundUnit:
        empty = {"bsm": (0, 0, 0), "n_bfu": 20, "idwl": (0,) * 52, "idsf": (0,) * 52, "quantized": (0,) * 512}
        return SoundUnit(**{**empty, **fields})  # type: ignore[arg-type]

    return make


# Files --------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder in which writers to file objects keep their temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Folder for files to be written."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder
