"""Scores of label maps."""

from . import metrics
from .boundaries import boundary_counts, trimap_counts
from .confusion import confusion_matrix
from .objects import object_counts
from .protocols import PROTOCOLS, Protocol

__all__ = [
    'PROTOCOLS',
    'Protocol',
    'boundary_counts',
    'confusion_matrix',
    'metrics',
    'object_counts',
    'trimap_counts',
]
