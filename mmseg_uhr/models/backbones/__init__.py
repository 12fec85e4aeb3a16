"""Encoders for ultra-high-resolution images."""

from .dual_resolution import DualResolutionEncoder
from .efficientnet_lite import EfficientNetLite0
from .efficientvit import EfficientViT
from .local_context import LocalContextEncoder
from .parallel import ParallelEncoders
from .shallow_stdc import ShallowSTDC
from .vgg_fcn import VGGFCN

__all__ = [
    'DualResolutionEncoder',
    'EfficientNetLite0',
    'EfficientViT',
    'LocalContextEncoder',
    'ParallelEncoders',
    'ShallowSTDC',
    'VGGFCN',
]
