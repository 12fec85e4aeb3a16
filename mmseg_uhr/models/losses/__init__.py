"""Losses."""

from .shallow_deep_contrast import ShallowDeepContrastLoss

__all__ = ['ShallowDeepContrastLoss']
