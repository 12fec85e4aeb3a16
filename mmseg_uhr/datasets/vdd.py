"""Varied Drone Dataset."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class VDDDataset(UHRDataset):
    """VDD, Varied Drone Dataset (Cai et al., 2023): 400 drone images."""

    METAINFO = dict(
        classes=(
            'other',
            'wall',
            'road',
            'vegetation',
            'vehicle',
            'roof',
            'water',
        ),
        palette=[
            [0, 0, 0],
            [128, 0, 0],
            [128, 64, 128],
            [0, 128, 0],
            [64, 0, 128],
            [128, 128, 0],
            [0, 0, 128],
        ],
    )
