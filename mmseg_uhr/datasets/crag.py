"""Colorectal adenocarcinoma glands."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class CRAGDataset(UHRDataset):
    """CRAG (Graham et al., MedIA 2019): glands in stained tissue.

    The official labels tell the glands of an image apart; here they are one
    class.
    """

    METAINFO = dict(
        classes=('background', 'gland'),
        palette=[[0, 0, 0], [255, 255, 255]],
    )
