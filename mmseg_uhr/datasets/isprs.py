"""Potsdam and Vaihingen of the ISPRS 2D labelling contest."""

from mmseg.datasets import ISPRSDataset, PotsdamDataset

from ..registry import DATASETS
from .uhr_dataset import UHRDataset


@DATASETS.register_module()
class PotsdamUHRDataset(UHRDataset):
    """ISPRS Potsdam: whole tiles, not the small ones that stock cuts."""

    METAINFO = PotsdamDataset.METAINFO


@DATASETS.register_module()
class VaihingenUHRDataset(UHRDataset):
    """ISPRS Vaihingen: whole tiles, not the small ones that stock cuts."""

    METAINFO = ISPRSDataset.METAINFO
