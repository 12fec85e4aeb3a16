"""Encoders for ultra-high-resolution images."""

from .dual_resolution import DualResolutionEncoder
from .efficientvit import EfficientViT
from .parallel import ParallelEncoders
from .shallow_stdc import ShallowSTDC

__all__ = [
    'DualResolutionEncoder',
    'EfficientViT',
    'ParallelEncoders',
    'ShallowSTDC',
]
