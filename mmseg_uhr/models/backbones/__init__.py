"""Encoders for ultra-high-resolution images."""

from .dual_resolution import DualResolutionEncoder
from .shallow_stdc import ShallowSTDC

__all__ = ['DualResolutionEncoder', 'ShallowSTDC']
