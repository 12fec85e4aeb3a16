"""Hooks of the runner; importing this package registers them."""

from .hard_windows import HardWindowHook
from .memory_budget_hook import MemoryBudgetHook
from .time_budget import TimeBudgetHook
from .visualization import UHRVisualizationHook

__all__ = [
    'HardWindowHook',
    'MemoryBudgetHook',
    'TimeBudgetHook',
    'UHRVisualizationHook',
]
