"""Functions behind the tools, for use from Python."""

from .checkpoint import load_weights
from .inference import init_segmentor, segment
from .overlay import write_overlay

__all__ = ['init_segmentor', 'load_weights', 'segment', 'write_overlay']
