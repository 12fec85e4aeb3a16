"""Data sets of ultra-high-resolution images, and their transforms."""

from . import transforms  # noqa: F401  registers the transforms
from .bluemarble import BlueMarbleDataset
from .cityscapes import CityscapesUHRDataset
from .deepglobe import DeepGlobeDataset
from .inria import InriaDataset
from .uhr_dataset import UHRDataset
from .urur import URURDataset

__all__ = [
    'BlueMarbleDataset',
    'CityscapesUHRDataset',
    'DeepGlobeDataset',
    'InriaDataset',
    'UHRDataset',
    'URURDataset',
]
