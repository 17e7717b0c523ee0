"""Ground truth to train learned ATRAC1 stages on: corpus, teachers, shards, loaders."""

from atrac_data.__about__ import __version__
from atrac_data.augmentation import Augmentation
from atrac_data.corpus import NAMES, SEEDS, corpus_manifest, render, write_corpus
from atrac_data.dataset import FrameDataset, frame_loader
from atrac_data.errors import DataError
from atrac_data.extraction import Settings, extract, plan, remove_unfinished
from atrac_data.fields import FIELDS, Field, Frames
from atrac_data.manifest import SPLITS, Manifest, Recording, scan, split_of
from atrac_data.normalization import Normalization
from atrac_data.report import SplitReport, as_text, write_report
from atrac_data.shards import RUN_FRAMES, Run, Shard, find_shards, write_shard
from atrac_data.statistics import FieldStatistics, measure
from atrac_data.teacher import BuiltinTeacher, PytracTeacher, Teacher

__all__ = [
    "FIELDS",
    "NAMES",
    "RUN_FRAMES",
    "SEEDS",
    "SPLITS",
    "Augmentation",
    "BuiltinTeacher",
    "DataError",
    "Field",
    "FieldStatistics",
    "FrameDataset",
    "Frames",
    "Manifest",
    "Normalization",
    "PytracTeacher",
    "Recording",
    "Run",
    "Settings",
    "Shard",
    "SplitReport",
    "Teacher",
    "__version__",
    "as_text",
    "corpus_manifest",
    "extract",
    "find_shards",
    "frame_loader",
    "measure",
    "plan",
    "remove_unfinished",
    "render",
    "scan",
    "split_of",
    "write_corpus",
    "write_report",
    "write_shard",
]
