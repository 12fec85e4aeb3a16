"""Losses."""

from .affinity import FeatureAffinityLoss
from .focal import SoftmaxFocalLoss
from .load_balance import LoadBalanceLoss
from .reconstruction import ReconstructionLoss
from .shallow_deep_contrast import ShallowDeepContrastLoss

__all__ = [
    'FeatureAffinityLoss',
    'LoadBalanceLoss',
    'ReconstructionLoss',
    'ShallowDeepContrastLoss',
    'SoftmaxFocalLoss',
]
