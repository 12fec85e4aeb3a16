"""Transforms that read a scene by window instead of decoding it whole."""

from .augment import ForEachView, RandomD4
from .formatting import PackUHRInputs
from .loading import LoadLabelRaster, LoadRaster
from .views import ReadViews
from .windows import RandomWindow

__all__ = [
    'ForEachView',
    'LoadLabelRaster',
    'LoadRaster',
    'PackUHRInputs',
    'RandomD4',
    'RandomWindow',
    'ReadViews',
]
