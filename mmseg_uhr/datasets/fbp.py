"""Five-Billion-Pixels."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class FiveBillionPixelsDataset(UHRDataset):
    """Five-Billion-Pixels (Tong et al., ISPRS 2023): 150 Gaofen-2 scenes.

    Label ids are the official ones less one: *unlabeled*, officially 0, is
    ignored. Papers split the scenes differently, so no list comes with the
    package.
    """

    METAINFO = dict(
        classes=(
            'industrial area',
            'paddy field',
            'irrigated field',
            'dry cropland',
            'garden land',
            'arbor forest',
            'shrub forest',
            'park land',
            'natural meadow',
            'artificial meadow',
            'river',
            'urban residential',
            'lake',
            'pond',
            'fish pond',
            'snow',
            'bareland',
            'rural residential',
            'stadium',
            'square',
            'road',
            'overpass',
            'railway station',
            'airport',
        ),
        palette=[
            [200, 0, 0],
            [0, 200, 0],
            [150, 250, 0],
            [150, 200, 150],
            [200, 0, 200],
            [150, 0, 250],
            [150, 150, 250],
            [200, 150, 200],
            [250, 200, 0],
            [200, 200, 0],
            [0, 0, 200],
            [250, 0, 150],
            [0, 150, 200],
            [0, 200, 250],
            [150, 200, 250],
            [250, 250, 250],
            [200, 200, 200],
            [200, 150, 150],
            [250, 200, 150],
            [150, 150, 0],
            [250, 150, 150],
            [250, 150, 0],
            [250, 200, 250],
            [200, 150, 0],
        ],
    )
