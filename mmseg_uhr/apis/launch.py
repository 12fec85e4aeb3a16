"""What a machine needs changed before a Runner is built on it."""

import atexit
import gc
import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device

# Fields of AmpOptimWrapper that OptimWrapper does not have.
_AMP_FIELDS = ('loss_scale', 'dtype', 'use_fsdp')


def prepare_launch(cfg: Config, launcher: str = 'none') -> None:
    """Make a config and this process fit the machine; call before the Runner.

    With an accelerator nothing changes: MMEngine uses it by itself. On a CPU,
    where MMEngine's start assumes CUDA, several processes meet over gloo,
    ``SyncBN`` becomes ``BN``, and mixed precision is left out; DDP and FSDP
    wrap the model without a GPU's number, also as ``strategy`` of a
    ``FlexibleRunner``.

    Args:
        cfg (Config): The run's config, changed in place.
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        RuntimeError: If the launcher cannot work on this machine.
    """
    cfg.launcher = launcher
    device = get_device()
    if device in ('cpu', 'mps'):
        _leave_out_amp(cfg, device)
    if device != 'cpu':
        return
    _replace_sync_bn(cfg)
    if launcher == 'none':
        return
    if launcher != 'pytorch':
        raise RuntimeError(
            f'--launcher {launcher} assigns one GPU to each process, but no '
            'GPU is available; on CPUs use tools/dist_train.sh or '
            'tools/dist_test.sh (--launcher pytorch)'
        )
    missing = [
        name
        for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
        if name not in os.environ
    ]
    if missing:
        raise RuntimeError(
            '--launcher pytorch needs the environment of torchrun, but '
            f'{", ".join(missing)} is not set; start with tools/dist_train.sh '
            'or tools/dist_test.sh, or leave out --launcher'
        )
    if not dist.is_initialized():
        dist.init_process_group('gloo', **_timeout(cfg))
        atexit.register(_leave_group)
    # Without these entries MMEngine wraps the model for the GPU `LOCAL_RANK`.
    ddp = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = dict(
        cfg.get('model_wrapper_cfg') or ddp, device_ids=None
    )
    if cfg.get('runner_type') == 'FlexibleRunner':
        _wrap_on_cpu(cfg.setdefault('strategy', dict(type='DDPStrategy')), ddp)


def _timeout(cfg: Config) -> dict[str, timedelta]:
    """Return how long processes wait for each other, if a config says so."""
    options = cfg.get('env_cfg', {}).get('dist_cfg', {})
    if 'timeout' not in options:
        return {}
    return dict(timeout=timedelta(seconds=options['timeout']))


def _wrap_on_cpu(strategy: dict, ddp: dict) -> None:
    """Let a strategy wrap models that are on a CPU."""
    wrapper = strategy.get('model_wrapper')
    kind = strategy['type'].rpartition('.')[2]
    if kind == 'DDPStrategy':
        strategy['model_wrapper'] = dict(wrapper or ddp, device_ids=None)
    elif kind == 'FSDPStrategy':
        fsdp = dict(type='MMFullyShardedDataParallel')
        strategy['model_wrapper'] = dict(
            wrapper or fsdp, device_id=torch.device('cpu')
        )
        if strategy.get('state_dict_cfg') == 'full':
            # MMEngine moves shards to the CPU, where PyTorch frees them then.
            strategy['state_dict_cfg'] = dict(
                state_dict_type='FULL_STATE_DICT',
                state_dict_config=dict(type='FullStateDictConfig'),
                optim_state_dict_config=dict(type='FullOptimStateDictConfig'),
            )


def _leave_group() -> None:
    """End gloo's threads while Python still runs.

    A thread that lets go of the last collective's tensors after Python has
    gone aborts the process, and with it the whole run. The threads end with
    the last reference to the group, some of which are in cycles of the
    Runner.
    """
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


def enable_amp(cfg: Config) -> None:
    """Turn on mixed precision, as ``--amp`` does in stock.

    Args:
        cfg (Config): The run's config, changed in place.

    Raises:
        ValueError: If the config has an optimizer wrapper of its own kind.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind == 'AmpOptimWrapper':
        return
    if kind != 'OptimWrapper':
        raise ValueError(
            f'--amp: optim_wrapper.type={kind!r}, but only OptimWrapper has a '
            'mixed precision counterpart; leave out --amp, or set the type '
            'in the config'
        )
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


def _leave_out_amp(cfg: Config, device: str) -> None:
    """Train in fp32 where MMEngine has no mixed precision."""
    wrapper = cfg.get('optim_wrapper')
    if wrapper is None or wrapper.get('type') != 'AmpOptimWrapper':
        return
    warnings.warn(
        f'Mixed precision (AmpOptimWrapper, --amp) is not available on '
        f'{device}: this run continues in fp32.',
        stacklevel=3,
    )
    wrapper.type = 'OptimWrapper'
    for field in _AMP_FIELDS:
        wrapper.pop(field, None)


def _replace_sync_bn(cfg: Config) -> None:
    """Replace synchronised by plain batch norm, wherever it is."""
    cfg.pop('sync_bn', None)

    def replace(node: dict) -> None:
        if node.get('type') in ('SyncBN', 'mmengine.SyncBN'):
            node['type'] = 'BN'

    if 'model' in cfg:
        _walk(cfg.model, replace)


def _walk(node: Any, visit: Callable[[dict], None]) -> None:
    """Call ``visit`` with every dict in a config, outer ones first."""
    if isinstance(node, dict):
        visit(node)
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            _walk(child, visit)


def pick_device(name: str | None = None) -> torch.device:
    """Choose the device of a run.

    Args:
        name (str, optional): Such as ``'cuda:1'`` or ``'cpu'``. Defaults to
            an accelerator if there is one, else the CPU.

    Returns:
        torch.device: A device that exists.

    Raises:
        ValueError: If there is no such device.
    """
    name = name or get_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        # PyTorch's builds without CUDA assert.
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f'device {name!r} cannot be used ({reason}); this machine has '
            f'{torch.cuda.device_count()} CUDA device(s); choose "cpu" or '
            'leave the device out'
        ) from error
    return device
