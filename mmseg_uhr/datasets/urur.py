"""URUR."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class URURDataset(UHRDataset):
    """URUR (Ji et al., CVPR 2023): 63 cities from the air, 5120 x 5120.

    Label ids are in the order of the authors' README, *others* first; some
    re-implementations put *others* last.
    """

    METAINFO = dict(
        classes=(
            'others',
            'building',
            'farmland',
            'greenhouse',
            'woodland',
            'bareland',
            'water',
            'road',
        ),
        palette=[
            [0, 0, 0],
            [230, 230, 230],
            [95, 163, 7],
            [100, 100, 100],
            [200, 230, 160],
            [255, 255, 100],
            [150, 200, 250],
            [240, 100, 80],
        ],
    )
