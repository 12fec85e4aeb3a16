"""Gaofen Image Dataset."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class GID5Dataset(UHRDataset):
    """GID (Tong et al., RSE 2020) with 5 classes, on Gaofen-2 scenes.

    Pixels without a label, officially black, are ignored.
    """

    METAINFO = dict(
        classes=('built-up', 'farmland', 'forest', 'meadow', 'water'),
        palette=[
            [255, 0, 0],
            [0, 255, 0],
            [0, 255, 255],
            [255, 255, 0],
            [0, 0, 255],
        ],
    )


@DATASETS.register_module()
class GID15Dataset(UHRDataset):
    """GID (Tong et al., RSE 2020) with 15 classes, on Gaofen-2 scenes.

    Label ids are the official ones less one: *unlabeled*, officially 0, is
    ignored.
    """

    METAINFO = dict(
        classes=(
            'industrial land',
            'urban residential',
            'rural residential',
            'traffic land',
            'paddy field',
            'irrigated land',
            'dry cropland',
            'garden plot',
            'arbor woodland',
            'shrub land',
            'natural grassland',
            'artificial grassland',
            'river',
            'lake',
            'pond',
        ),
        palette=[
            [200, 0, 0],
            [250, 0, 150],
            [200, 150, 150],
            [250, 150, 150],
            [0, 200, 0],
            [150, 250, 0],
            [150, 200, 150],
            [200, 0, 200],
            [150, 0, 250],
            [150, 150, 250],
            [250, 200, 0],
            [200, 200, 0],
            [0, 0, 200],
            [0, 150, 200],
            [0, 200, 250],
        ],
    )
