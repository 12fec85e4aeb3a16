"""Metrics for evaluators; importing this package registers them."""

from .uhr_iou import UHRIoUMetric

__all__ = ['UHRIoUMetric']
