"""What layers are made of unless a config says otherwise.

The dicts are never changed in place; a config replaces them as a whole.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCH_NORM = dict(type='BN')
RELU = dict(type='ReLU')


def check_batch(name: str, x: Tensor, module: nn.Module) -> None:
    """Raise if batch norm is to learn from a single value.

    Args:
        name (str): Who asks; begins the message.
        x (Tensor): Globally pooled map (N, C, 1, 1).
        module (nn.Module): What will normalise it.

    Raises:
        ValueError: While training with one image per process and a norm that
            does not look at other processes.
    """
    if not module.training or x.numel() != x.shape[1]:
        return
    alone = not (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )
    for norm in module.modules():
        if not isinstance(norm, _BatchNorm) or not norm.training:
            continue
        if alone or not isinstance(norm, nn.SyncBatchNorm):
            raise ValueError(
                f'{name} pools the whole window into one value per channel, '
                'of which batch norm has no statistics when a process trains '
                'with one image. Set train_dataloader.batch_size to 2 or '
                "more, train on several GPUs with norm_cfg=dict(type='SyncBN')"
                ", or choose dict(type='GN', num_groups=32) as pool_norm_cfg "
                '(norm_cfg of a layer without that option)'
            )
