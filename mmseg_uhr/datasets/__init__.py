"""Data sets of ultra-high-resolution images, and their transforms."""

from . import samplers, transforms  # noqa: F401  registers them
from .bluemarble import BlueMarbleDataset
from .cityscapes import CityscapesUHRDataset
from .crag import CRAGDataset
from .deepglobe import DeepGlobeDataset
from .fbp import FiveBillionPixelsDataset
from .gid import GID5Dataset, GID15Dataset
from .inria import InriaDataset
from .isic import ISICDataset
from .isprs import PotsdamUHRDataset, VaihingenUHRDataset
from .loveda import LoveDAUHRDataset
from .uavid import UAVidDataset
from .udd import UDD6Dataset
from .uhr_dataset import UHRDataset
from .urur import URURDataset
from .vdd import VDDDataset

__all__ = [
    'BlueMarbleDataset',
    'CRAGDataset',
    'CityscapesUHRDataset',
    'DeepGlobeDataset',
    'FiveBillionPixelsDataset',
    'GID15Dataset',
    'GID5Dataset',
    'ISICDataset',
    'InriaDataset',
    'LoveDAUHRDataset',
    'PotsdamUHRDataset',
    'UAVidDataset',
    'UDD6Dataset',
    'UHRDataset',
    'URURDataset',
    'VDDDataset',
    'VaihingenUHRDataset',
]
