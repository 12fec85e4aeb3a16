"""ISIC lesion boundaries."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class ISICDataset(UHRDataset):
    """ISIC 2018, task 1: boundaries of skin lesions in dermoscopic images."""

    METAINFO = dict(
        classes=('background', 'lesion'),
        palette=[[0, 0, 0], [255, 255, 255]],
    )
