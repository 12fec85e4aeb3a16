"""Potsdam and Vaihingen of the ISPRS 2D labelling contest."""

from ..registry import DATASETS
from .uhr_dataset import UHRDataset

_METAINFO = dict(
    classes=(
        'impervious_surface',
        'building',
        'low_vegetation',
        'tree',
        'car',
        'clutter',
    ),
    palette=[
        [255, 255, 255],
        [0, 0, 255],
        [0, 255, 255],
        [0, 255, 0],
        [255, 255, 0],
        [255, 0, 0],
    ],
)


@DATASETS.register_module()
class PotsdamUHRDataset(UHRDataset):
    """ISPRS Potsdam: whole tiles, not the small ones that stock cuts."""

    METAINFO = _METAINFO


@DATASETS.register_module()
class VaihingenUHRDataset(UHRDataset):
    """ISPRS Vaihingen: whole tiles, not the small ones that stock cuts."""

    METAINFO = _METAINFO
