"""Functions behind the tools, for use from Python."""

from .. import compat
from .inferencer import UHRInferencer
from .overlay import write_overlay
from .ranks import RankError, process_group, silent_ranks
from .results import SceneResult
from .runs import ScenesError

if compat.has_stack():
    from .budgets import fit_config
    from .checkpoint import load_weights
    from .segmentor import init_segmentor
else:
    __getattr__ = compat.refuse(
        __name__, 'fit_config', 'init_segmentor', 'load_weights'
    )

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
