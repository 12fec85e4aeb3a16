"""Cityscapes, whole frames."""

from mmseg.datasets import CityscapesDataset

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

    METAINFO = CityscapesDataset.METAINFO

    def __init__(
        self,
        img_suffix: str = '_leftImg8bit.png',
        seg_map_suffix: str = '_gtFine_labelTrainIds.png',
        **kwargs,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs
        )
