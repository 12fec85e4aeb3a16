"""Urban Drone Dataset."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class UDD6Dataset(UHRDataset):
    """UDD-6, Urban Drone Dataset (Chen et al., PRCV 2018) with 6 classes.

    Label ids are the official ones of UDD-6; those of UDD-5 differ.
    """

    METAINFO = dict(
        classes=(
            'other',
            'building',
            'road',
            'vegetation',
            'vehicle',
            'roof',
        ),
        palette=[
            [0, 0, 0],
            [102, 102, 156],
            [128, 64, 128],
            [107, 142, 35],
            [0, 0, 142],
            [70, 70, 70],
        ],
    )
