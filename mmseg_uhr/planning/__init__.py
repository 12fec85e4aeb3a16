"""Plans for configs: what they need, and what of them fits a budget."""

from .planner import Planned, Planner, config_lines, sweep

__all__ = ['Planned', 'Planner', 'config_lines', 'sweep']
