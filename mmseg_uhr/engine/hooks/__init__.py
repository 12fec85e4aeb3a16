"""Hooks of the runner; importing this package registers them."""

from .time_budget import TimeBudgetHook
from .visualization import UHRVisualizationHook

__all__ = ['TimeBudgetHook', 'UHRVisualizationHook']
