"""Inria aerial image labeling."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class InriaDataset(UHRDataset):
    """Inria aerial image labeling (Maggiori et al., IGARSS 2017), 5000 x 5000.

    Label ids are 0 and 1; the official 0 and 255 must be converted, because
    255 means *ignored* here. The splits are those of FCtL (Li et al., ICCV
    2021), 126 / 27 / 27 of the 180 labelled tiles.
    """

    METAINFO = dict(
        classes=('background', 'building'),
        palette=[[0, 0, 0], [255, 255, 255]],
    )
    SPLIT_LISTS = dict(
        train='inria_train.txt', val='inria_val.txt', test='inria_test.txt'
    )
    SPLIT_LIST_SUFFIX = '_sat.tif'
