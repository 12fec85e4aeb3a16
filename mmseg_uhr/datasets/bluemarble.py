"""Land cover on NASA's Blue Marble."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class BlueMarbleDataset(UHRDataset):
    """Land cover of the Earth: 10 classes, 5 scenes of 72 x 162 degrees.

    Images are NASA's Blue Marble (scenes 1080 pixels wide, 2430 high), or a
    relief map of twice the resolution; labels come from MODIS MCD12C1 (IGBP
    classes, 2019) and from GSHHG coastlines.
    ``tools/dataset_converters/bluemarble.py`` builds it.
    """

    METAINFO = dict(
        classes=(
            'sea',
            'lake',
            'forest_temperate_boreal',
            'forest_tropical',
            'shrubland',
            'savanna',
            'grassland',
            'cropland',
            'ice',
            'barren',
        ),
        palette=[
            [10, 30, 80],
            [60, 140, 255],
            [20, 90, 40],
            [0, 160, 60],
            [170, 140, 80],
            [190, 200, 60],
            [150, 220, 120],
            [240, 170, 60],
            [245, 245, 255],
            [225, 205, 160],
        ],
    )
