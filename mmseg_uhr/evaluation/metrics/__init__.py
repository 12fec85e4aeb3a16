"""Metrics for evaluators; importing this package registers them."""

from .boundary import BoundaryIoUMetric, TrimapIoUMetric
from .counting import CountingMetric
from .object_size import ObjectSizeIoUMetric
from .uhr_iou import UHRIoUMetric

__all__ = [
    'BoundaryIoUMetric',
    'CountingMetric',
    'ObjectSizeIoUMetric',
    'TrimapIoUMetric',
    'UHRIoUMetric',
]
