"""Windows, views, tile plans, blending and band accumulation."""

from .band import BandAccumulator
from .blending import BLENDS, blend_weights
from .plan import TilePlan
from .views import View, parse_views
from .window import Window

__all__ = [
    'BLENDS',
    'BandAccumulator',
    'TilePlan',
    'View',
    'Window',
    'blend_weights',
    'parse_views',
]
