"""Decode heads."""

from .context_refinement_head import ContextRefinementHead
from .fcn8s_head import FCN8sHead
from .hgn_head import HGNHead
from .hlrc_head import HLRCHead
from .sghrq_head import SGHRQHead
from .shallow_deep_contrast_head import ShallowDeepContrastHead
from .super_resolution_head import SuperResolutionHead

__all__ = [
    'ContextRefinementHead',
    'FCN8sHead',
    'HGNHead',
    'HLRCHead',
    'SGHRQHead',
    'ShallowDeepContrastHead',
    'SuperResolutionHead',
]
