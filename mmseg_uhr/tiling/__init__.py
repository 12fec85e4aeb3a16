"""Windows, views, tile plans, blending and band accumulation."""

from .band import BandAccumulator
from .blending import BLENDS, blend_weights
from .plan import TilePlan
from .symmetry import SYMMETRIES, Symmetry
from .views import View, parse_views
from .window import Window

__all__ = [
    'BLENDS',
    'BandAccumulator',
    'SYMMETRIES',
    'Symmetry',
    'TilePlan',
    'View',
    'Window',
    'blend_weights',
    'parse_views',
]
