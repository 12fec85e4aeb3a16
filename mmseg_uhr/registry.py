"""Child registries of MMSegmentation's, all with the scope ``mmseg_uhr``.

A config that keeps ``default_scope = 'mmseg'`` names our types with the scope,
e.g. ``type='mmseg_uhr.HGNHead'``; MMEngine then imports this module and the
``locations`` below by itself.
"""

from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import Registry
from mmseg import registry as mmseg_registry

_SCOPE = 'mmseg_uhr'


def _child(name: str, *locations: str) -> Registry:
    """Make the child of ``mmseg.registry.<name>``.

    Args:
        name (str): Attribute of :mod:`mmseg.registry`, e.g. ``'MODELS'``.
        *locations (str): Packages that hold the types.

    Returns:
        Registry: An empty registry with scope ``mmseg_uhr``.
    """
    parent = getattr(mmseg_registry, name)
    return Registry(
        parent.name,
        parent=parent,
        scope=_SCOPE,
        locations=list(locations),
    )


DATASETS = _child('DATASETS', 'mmseg_uhr.datasets')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'mmseg_uhr.datasets.samplers')
TRANSFORMS = _child('TRANSFORMS', 'mmseg_uhr.datasets.transforms')
MODELS = _child('MODELS', 'mmseg_uhr.models')
HOOKS = _child('HOOKS', 'mmseg_uhr.engine.hooks')
METRICS = _child('METRICS', 'mmseg_uhr.evaluation.metrics')
# MMSegmentation has no registry of strategies between MMEngine's and ours.
STRATEGIES = Registry(
    'strategy',
    parent=MMENGINE_STRATEGIES,
    scope=_SCOPE,
    locations=['mmseg_uhr.engine.strategies'],
)
# Without types of ours. In configs that inherit `mmseg_uhr::...` MMEngine
# looks up types in our scope; it finds stock's once these are imported.
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'OPTIM_WRAPPER_CONSTRUCTORS', 'mmseg.engine.optimizers'
)
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS', 'mmseg.engine')
TASK_UTILS = _child('TASK_UTILS', 'mmseg.models')
VISUALIZERS = _child('VISUALIZERS', 'mmseg.visualization')
