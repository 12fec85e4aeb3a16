"""Cityscapes, whole frames."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class CityscapesUHRDataset(UHRDataset):
    """Cityscapes (Cordts et al., CVPR 2016): street scenes, 2048 x 1024.

    Reads the official folders, city by city, with labels in train ids.

    Args:
        img_suffix (str): End of the image names.
        seg_map_suffix (str): End of the label names.
        **kwargs: Of :class:`UHRDataset`.
    """

    METAINFO = dict(
        classes=(
            'road',
            'sidewalk',
            'building',
            'wall',
            'fence',
            'pole',
            'traffic light',
            'traffic sign',
            'vegetation',
            'terrain',
            'sky',
            'person',
            'rider',
            'car',
            'truck',
            'bus',
            'train',
            'motorcycle',
            'bicycle',
        ),
        palette=[
            [128, 64, 128],
            [244, 35, 232],
            [70, 70, 70],
            [102, 102, 156],
            [190, 153, 153],
            [153, 153, 153],
            [250, 170, 30],
            [220, 220, 0],
            [107, 142, 35],
            [152, 251, 152],
            [70, 130, 180],
            [220, 20, 60],
            [255, 0, 0],
            [0, 0, 142],
            [0, 0, 70],
            [0, 60, 100],
            [0, 80, 100],
            [0, 0, 230],
            [119, 11, 32],
        ],
    )

    def __init__(
        self,
        img_suffix: str = '_leftImg8bit.png',
        seg_map_suffix: str = '_gtFine_labelTrainIds.png',
        **kwargs,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs
        )
