"""Images, their sources and transforms, strings, and the data groups. Light: torchvision and sklearn come with `load`."""

from inn_lab.data.reber import Reber
from inn_lab.data.sets import Classification, ImageData, RandomAnomaly, UniformAnomaly
from inn_lab.data.sine import Sine
from inn_lab.data.sources import SOURCES, Images, load, split
from inn_lab.data.transforms import ANOMALY, CLASSIFICATION, apply_mixed

__all__ = [
    "ANOMALY",
    "CLASSIFICATION",
    "SOURCES",
    "Classification",
    "ImageData",
    "Images",
    "RandomAnomaly",
    "Reber",
    "Sine",
    "UniformAnomaly",
    "apply_mixed",
    "load",
    "split",
]
