"""The data groups: images with their sources and transforms, strings, a sine, and a user's own sequences.

Only `load` imports torchvision.
"""

from inn_lab.data.reber import Reber
from inn_lab.data.sets import Classification, ImageSet, RandomAnomaly, UniformAnomaly
from inn_lab.data.sine import Sine
from inn_lab.data.sources import SOURCES, Images, divide, load
from inn_lab.data.tensors import Tensors
from inn_lab.data.transforms import ANOMALY, CLASSIFICATION, apply_mixed

__all__ = [
    "ANOMALY",
    "CLASSIFICATION",
    "SOURCES",
    "Classification",
    "ImageSet",
    "Images",
    "RandomAnomaly",
    "Reber",
    "Sine",
    "Tensors",
    "UniformAnomaly",
    "apply_mixed",
    "divide",
    "load",
]
