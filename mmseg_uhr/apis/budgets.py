"""Configs that keep the budget of their MemoryBudgetHook."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from ..memory import parse_budget, total_memory
from ..planning import Planner, config_lines

_HOOK = 'MemoryBudgetHook'


def fit_config(cfg: Config) -> list[str]:
    """Fit the training of a config into the budget of its hook.

    Does nothing unless ``custom_hooks`` has a
    :class:`~mmseg_uhr.engine.hooks.MemoryBudgetHook` with ``policy='fit'``.
    Call it once all options are merged, before the Runner. Tried in this
    order, the next one where the ones before do not suffice: nothing; losses
    in stripes; activations of modules computed again; smaller batches,
    accumulated; a smaller crop. Up to the last, losses, the samples of an
    optimizer step, the number of steps and the schedule stay as configured.

    The result depends on the config and the memory of the device alone: all
    processes of a run, and the run that resumes it, get the same.

    Args:
        cfg (Config): Changed in place.

    Returns:
        list[str]: The changes, as lines of a config; also logged.

    Raises:
        ValueError: If the budget makes no sense, the config cannot be
            planned, or nothing fits; then the least that would is named.
    """
    hook = _hook_of(cfg)
    if hook is None or hook.get('policy') != 'fit':
        return []
    limit = parse_budget(hook['budget'], total_memory(get_device()))
    planner = Planner(cfg, 'train')
    if planner.plan().total <= limit:
        return []
    planned = planner.fit(limit)
    lines = config_lines(planned.changes)
    print_log(
        '\n'.join(
            [
                f'{_HOOK}: a budget of {limit / 2**20:.0f} MiB changes the '
                f'config. {"; ".join(planned.notes)}. A step is planned to '
                f'need {planned.plan.total / 2**20:.0f} MiB.',
                *lines,
            ]
        ),
        logger='current',
    )
    cfg.merge_from_dict(planned.changes)
    return lines


def _hook_of(cfg: Config) -> Mapping[str, Any] | None:
    """Return the config of the hook, if there is one."""
    for hook in cfg.get('custom_hooks') or []:
        if isinstance(hook, Mapping) and (
            getattr(hook['type'], '__name__', str(hook['type'])).split('.')[-1]
            == _HOOK
        ):
            return hook
    return None
