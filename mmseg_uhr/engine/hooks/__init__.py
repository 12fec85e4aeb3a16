"""Hooks of the runner; importing this package registers them."""

from .checkpoint import CheckpointHook
from .hard_windows import HardWindowHook
from .logger import LoggerHook
from .memory_budget_hook import MemoryBudgetHook
from .rank_mean import RankMeanHook
from .time_budget import TimeBudgetHook
from .visualization import UHRVisualizationHook

__all__ = [
    'CheckpointHook',
    'HardWindowHook',
    'LoggerHook',
    'MemoryBudgetHook',
    'RankMeanHook',
    'TimeBudgetHook',
    'UHRVisualizationHook',
]
