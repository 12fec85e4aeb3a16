"""Memory and cost: what was used, what will be used."""

from .budget import parse_budget, total_memory
from .cost import ModelCost, model_cost
from .fakes import WithoutValues
from .live import LiveBytes
from .meter import Meter
from .plan import LargeTensor, MemoryPlan
from .planner import plan_memory

__all__ = [
    'LargeTensor',
    'LiveBytes',
    'MemoryPlan',
    'Meter',
    'ModelCost',
    'WithoutValues',
    'model_cost',
    'parse_budget',
    'plan_memory',
    'total_memory',
]
