"""Losses."""

from .affinity import FeatureAffinityLoss
from .focal import SoftmaxFocalLoss
from .load_balance import LoadBalanceLoss
from .reconstruction import ReconstructionLoss
from .shallow_deep_contrast import ShallowDeepContrastLoss
from .striped import stripe_losses

__all__ = [
    'FeatureAffinityLoss',
    'LoadBalanceLoss',
    'ReconstructionLoss',
    'ShallowDeepContrastLoss',
    'SoftmaxFocalLoss',
    'stripe_losses',
]
