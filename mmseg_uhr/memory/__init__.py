"""Memory and cost: what was used, what will be used."""

from .cost import ModelCost, model_cost
from .meter import Meter

__all__ = ['Meter', 'ModelCost', 'model_cost']
