"""Functions behind the tools, for use from Python."""

from .budgets import fit_config
from .checkpoint import load_weights
from .inferencer import UHRInferencer
from .overlay import write_overlay
from .ranks import RankError, process_group, silent_ranks
from .results import SceneResult
from .runs import ScenesError
from .segmentor import init_segmentor

__all__ = [
    'RankError',
    'SceneResult',
    'ScenesError',
    'UHRInferencer',
    'fit_config',
    'init_segmentor',
    'load_weights',
    'process_group',
    'silent_ranks',
    'write_overlay',
]
