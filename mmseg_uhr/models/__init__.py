"""Networks for ultra-high-resolution images."""

from . import (
    backbones,
    data_preprocessors,
    decode_heads,
    initial_weights,
    layers,
    losses,
    necks,
    segmentors,
)

__all__ = [
    'backbones',
    'data_preprocessors',
    'decode_heads',
    'initial_weights',
    'layers',
    'losses',
    'necks',
    'segmentors',
]
