"""Memory and cost: what was used, what will be used."""

from .budget import parse_budget, total_memory
from .cost import ModelCost, model_cost
from .meter import Meter

__all__ = [
    'Meter',
    'ModelCost',
    'model_cost',
    'parse_budget',
    'total_memory',
]
