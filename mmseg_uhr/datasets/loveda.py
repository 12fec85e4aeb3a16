"""LoveDA."""

from mmseg.datasets import LoveDADataset

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class LoveDAUHRDataset(UHRDataset):
    """LoveDA (Wang et al., NeurIPS 2021): town and country, 1024 x 1024.

    Label ids are the official ones less one: no data, officially 0, is
    ignored. The images stay PNG files.

    Args:
        img_suffix (str): End of the image names. Defaults to ``'.png'``.
        **kwargs: Of :class:`UHRDataset`.
    """

    METAINFO = LoveDADataset.METAINFO

    def __init__(self, img_suffix: str = '.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, **kwargs)
