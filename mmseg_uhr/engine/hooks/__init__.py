"""Hooks of the runner; importing this package registers them."""

from .memory_budget_hook import MemoryBudgetHook
from .time_budget import TimeBudgetHook
from .visualization import UHRVisualizationHook

__all__ = [
    'MemoryBudgetHook',
    'TimeBudgetHook',
    'UHRVisualizationHook',
]
