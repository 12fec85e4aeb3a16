"""UAVid."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class UAVidDataset(UHRDataset):
    """UAVid (Lyu et al., ISPRS 2020): streets from a drone, 4K frames.

    Label ids are in GeoSeg's order, *clutter* last.
    """

    METAINFO = dict(
        classes=(
            'building',
            'road',
            'tree',
            'low vegetation',
            'moving car',
            'static car',
            'human',
            'clutter',
        ),
        palette=[
            [128, 0, 0],
            [128, 64, 128],
            [0, 128, 0],
            [128, 128, 0],
            [64, 0, 128],
            [192, 0, 192],
            [64, 64, 0],
            [0, 0, 0],
        ],
    )
