"""DeepGlobe land cover."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class DeepGlobeDataset(UHRDataset):
    """DeepGlobe land cover (Demir et al., CVPRW 2018): 2448 x 2448 pixels.

    Label ids are in the order of the UHR papers: 0 is *unknown*, which is
    trained as a class but left out of the mean IoU. The splits are those of
    GLNet (Chen et al., CVPR 2019), 454 / 207 / 142 of the 803 labelled
    images; papers print 455 / 207 / 142.
    """

    METAINFO = dict(
        classes=(
            'unknown',
            'urban',
            'agriculture',
            'rangeland',
            'forest',
            'water',
            'barren',
        ),
        palette=[
            [0, 0, 0],
            [0, 255, 255],
            [255, 255, 0],
            [255, 0, 255],
            [0, 255, 0],
            [0, 0, 255],
            [255, 255, 255],
        ],
    )
    SPLIT_LISTS = dict(
        train='deepglobe_train.txt',
        val='deepglobe_val.txt',
        test='deepglobe_test.txt',
    )
