"""Scores of label maps."""

from . import metrics
from .confusion import confusion_matrix

__all__ = ['confusion_matrix', 'metrics']
