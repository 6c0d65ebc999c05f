"""Images and their sources, the transforms, and the data groups. Light to import: torchvision and sklearn come with `load`."""

from inn_lab.data.sets import Classification, RandomAnomaly, UniformAnomaly
from inn_lab.data.sources import SOURCES, Images, load, split
from inn_lab.data.transforms import ANOMALY, CLASSIFICATION, apply_mixed

__all__ = [
    "ANOMALY",
    "CLASSIFICATION",
    "SOURCES",
    "Classification",
    "Images",
    "RandomAnomaly",
    "UniformAnomaly",
    "apply_mixed",
    "load",
    "split",
]
