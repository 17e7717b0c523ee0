"""A differentiable ATRAC1 codec: torch layer and files."""

from atrac_codec.__about__ import __version__
from atrac_codec.audio import AudioReader, AudioWriter, read_audio
from atrac_codec.bridge import (
    atrac_params_to_neural_outputs,
    from_aea,
    from_units,
    neural_outputs_to_atrac_params,
    to_aea,
    to_units,
)
from atrac_codec.checkpoint import CheckpointError, load_stage, save_stage
from atrac_codec.codec import NNFullCodec
from atrac_codec.compare import compare
from atrac_codec.decoder import Decoded, NNDecoder
from atrac_codec.encoder import Encoded, NNEncoder
from atrac_codec.files import DecodeReport, EncodeReport, decode_file, encode_file
from atrac_codec.presets import DECODERS, DEFAULT, ENCODERS, Trained, build_decoder, build_encoder
from atrac_codec.sndfile import AudioError
from atrac_codec.stream import StreamDecoder, StreamEncoder

__all__ = [
    "DECODERS",
    "DEFAULT",
    "ENCODERS",
    "AudioError",
    "AudioReader",
    "AudioWriter",
    "CheckpointError",
    "DecodeReport",
    "Decoded",
    "EncodeReport",
    "Encoded",
    "NNDecoder",
    "NNEncoder",
    "NNFullCodec",
    "StreamDecoder",
    "StreamEncoder",
    "Trained",
    "__version__",
    "atrac_params_to_neural_outputs",
    "build_decoder",
    "build_encoder",
    "compare",
    "decode_file",
    "encode_file",
    "from_aea",
    "from_units",
    "load_stage",
    "neural_outputs_to_atrac_params",
    "read_audio",
    "save_stage",
    "to_aea",
    "to_units",
]
