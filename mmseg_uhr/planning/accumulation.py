"""Configs of smaller batches that train as the larger ones did."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

# Fields that count iterations.
_OF_LOOPS = ('max_iters', 'val_interval', 'val_begin')
_OF_SCHEDULERS = ('end', 'T_max', 'step_size', 'total_steps')
_LISTS_OF_SCHEDULERS = ('milestones', 'periods')
# And those of hooks, with defaults where leaving one out means something.
_OF_HOOKS: dict[str, dict[str, int | None]] = {
    'CheckpointHook': dict(interval=None, save_begin=None),
    'LoggerHook': dict(interval=10, interval_exp_name=None),
    'EMAHook': dict(interval=1, begin_iter=None),
}


def accumulated(cfg: Config, batch_size: int, times: int) -> dict[str, Any]:
    """Return a config of smaller batches and as many optimizer steps.

    Whatever counts iterations is multiplied: the loop, schedulers, intervals
    of hooks. Schedulers begin so that each optimizer step is made with the
    rate that it had.

    Args:
        cfg (Config): Of an experiment.
        batch_size (int): Samples per iteration.
        times (int): Iterations in the place of one.

    Returns:
        dict: What a config that inherits has to say.
    """
    changes: dict[str, Any] = {}
    loader = cfg.get('train_dataloader') or {}
    if batch_size != loader.get('batch_size'):
        changes['train_dataloader'] = dict(batch_size=batch_size)
    if times == 1:
        return changes
    counts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    changes['optim_wrapper'] = dict(accumulative_counts=counts * times)
    loop = cfg.get('train_cfg') or {}
    if 'max_iters' in loop:
        changes['train_cfg'] = _loop(loop, times)
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, Mapping):
        schedulers = [schedulers]
    scaled = [_scheduler(scheduler, times) for scheduler in schedulers]
    if scaled != schedulers:
        changes['param_scheduler'] = scaled
    scale = cfg.get('auto_scale_lr') or {}
    if scale.get('enable') and 'base_batch_size' in scale:
        # MMEngine compares it with a batch, not with a step's samples.
        changes['auto_scale_lr'] = dict(
            base_batch_size=scale['base_batch_size'] / times
        )
    return {**changes, **_hooks(cfg, times)}


def _loop(loop: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Multiply the iterations of a loop."""
    changes: dict[str, Any] = {
        name: loop[name] * times for name in _OF_LOOPS if name in loop
    }
    if loop.get('dynamic_intervals'):
        changes['dynamic_intervals'] = [
            (begin * times, interval * times)
            for begin, interval in loop['dynamic_intervals']
        ]
    return changes


def _scheduler(cfg: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Multiply the iterations of a scheduler."""
    scaled = dict(cfg)
    if scaled.get('by_epoch', True):
        return scaled
    begin = scaled.get('begin', 0)
    kind = str(scaled['type'])
    if kind.startswith('CosineAnnealing') and 'end' in scaled:
        scaled.setdefault('T_max', scaled['end'] - begin)
    for name in _OF_SCHEDULERS:
        if scaled.get(name) is not None:
            scaled[name] *= times
    for name in _LISTS_OF_SCHEDULERS:
        if name in scaled:
            scaled[name] = [number * times for number in scaled[name]]
    if kind.startswith('Exponential'):
        scaled['gamma'] **= 1 / times
    # The last batch of a step is the one whose rate counts.
    scaled['begin'] = begin * times + times - 1
    return scaled


def _hooks(cfg: Config, times: int) -> dict[str, Any]:
    """Multiply the iterations of hooks."""
    changes: dict[str, Any] = {}
    default = {
        name: new
        for name, hook in (cfg.get('default_hooks') or {}).items()
        if (new := _hook(hook, times))
    }
    if default:
        changes['default_hooks'] = default
    custom = list(cfg.get('custom_hooks') or [])
    scaled = [
        {**hook, **new} if (new := _hook(hook, times)) else hook
        for hook in custom
    ]
    if scaled != custom:
        changes['custom_hooks'] = scaled
    return changes


def _hook(hook: Any, times: int) -> dict[str, int]:
    """Return the fields of a hook that count iterations, multiplied."""
    if not isinstance(hook, Mapping):
        return {}
    kind = str(hook.get('type')).rpartition('.')[2]
    if kind == 'CheckpointHook' and hook.get('by_epoch', True):
        return {}
    fields = {
        name: hook.get(name, default)
        for name, default in _OF_HOOKS.get(kind, {}).items()
    }
    return {
        # Intervals of -1 mean never.
        name: number * times
        for name, number in fields.items()
        if number is not None and number > 0
    }
