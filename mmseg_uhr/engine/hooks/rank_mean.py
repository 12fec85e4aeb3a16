"""Logged losses of all processes, not of the first one."""

import torch
from mmengine.dist import all_reduce_dict
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS


@HOOKS.register_module()
class RankMeanHook(Hook):
    """Log the mean of the losses over all processes.

    MMEngine logs what the first process has computed of its own share of a
    batch. With this hook the curve is that of the whole batch, as one process
    would log it. One message of a few numbers an iteration; with one process,
    nothing. Training does not change.
    """

    # Before the hook that hands the losses to the log.
    priority = 'HIGHEST'

    @torch.no_grad()
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Average what will be logged.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Not used.
            data_batch (dict, optional): Not used.
            outputs (dict, optional): Scalars by name, changed in place.
        """
        if outputs:
            all_reduce_dict(outputs, op='mean')
