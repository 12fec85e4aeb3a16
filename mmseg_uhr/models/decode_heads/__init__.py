"""Decode heads."""

from .hgn_head import HGNHead
from .shallow_deep_contrast_head import ShallowDeepContrastHead

__all__ = ['HGNHead', 'ShallowDeepContrastHead']
