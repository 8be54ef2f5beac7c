"""The data side: data sets as they lie on disk, windows over them, and batches that are functions of their number."""

from __future__ import annotations

from .cache import Cached
from .choices import one_each
from .collate import collate
from .latents import Latents
from .loader import Loader
from .mixture import Mixture
from .opening import open_dataset
from .source import Dataset, Episode, Facts, Sample, Source, UntidyData
from .stages import Stages
from .window import Windows

__all__ = [
    "Cached",
    "Dataset",
    "Episode",
    "Facts",
    "Latents",
    "Loader",
    "Mixture",
    "Sample",
    "Source",
    "Stages",
    "UntidyData",
    "Windows",
    "collate",
    "one_each",
    "open_dataset",
]
