"""Ground truth to train learned ATRAC1 stages on: corpus, teachers, shards, loaders."""

from atrac_data.__about__ import __version__
from atrac_data.augmentation import Augmentation, Change
from atrac_data.corpus import KINDS, NAMES, SEEDS, corpus_manifest, render, write_corpus
from atrac_data.dataset import FrameDataset, frame_loader
from atrac_data.errors import DataError
from atrac_data.extraction import Item, Settings, ShardPlan, extract, plan
from atrac_data.fields import FIELDS, Field, Frames
from atrac_data.manifest import SPLITS, Manifest, Recording, scan, split_of
from atrac_data.normalization import Normalization
from atrac_data.shards import RUN_FRAMES, Run, Shard, ShardWriter, find_shards
from atrac_data.statistics import FieldStatistics, Statistics, histogram_axis, measure
from atrac_data.synthesis import SAMPLE_RATE
from atrac_data.teacher import BuiltinTeacher, PytracTeacher, Teacher

__all__ = [
    "FIELDS",
    "KINDS",
    "NAMES",
    "RUN_FRAMES",
    "SAMPLE_RATE",
    "SEEDS",
    "SPLITS",
    "Augmentation",
    "BuiltinTeacher",
    "Change",
    "DataError",
    "Field",
    "FieldStatistics",
    "FrameDataset",
    "Frames",
    "Item",
    "Manifest",
    "Normalization",
    "PytracTeacher",
    "Recording",
    "Run",
    "Settings",
    "Shard",
    "ShardPlan",
    "ShardWriter",
    "Statistics",
    "Teacher",
    "__version__",
    "corpus_manifest",
    "extract",
    "find_shards",
    "frame_loader",
    "histogram_axis",
    "measure",
    "plan",
    "render",
    "scan",
    "split_of",
    "write_corpus",
]
