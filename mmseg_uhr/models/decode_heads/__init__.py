"""Decode heads."""

from .hgn_head import HGNHead
from .hlrc_head import HLRCHead
from .sghrq_head import SGHRQHead
from .shallow_deep_contrast_head import ShallowDeepContrastHead
from .super_resolution_head import SuperResolutionHead

__all__ = [
    'HGNHead',
    'HLRCHead',
    'SGHRQHead',
    'ShallowDeepContrastHead',
    'SuperResolutionHead',
]
