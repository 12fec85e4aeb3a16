"""Which windows a model finds hard."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...datasets.samplers import WindowSampler
from ...datasets.transforms.windows import WindowDraw
from ...registry import HOOKS


@HOOKS.register_module()
class HardWindowHook(Hook):
    """Tell the ``WindowSampler`` the loss of each window, for its replay.

    The loss is the cross-entropy of the decode head's logits at their own
    size, which is usually a quarter or an eighth of the window's, averaged
    over the pixels that are not ignored; whatever losses the model trains
    with. Nothing but this mean leaves the device, once an iteration.

    The sampler lives in the main process of each rank, and so does the hook:
    nothing has to reach the workers but the next draws. Those already handed
    out (``num_workers * prefetch_factor`` batches) come first. Each rank
    replays its own windows. What is remembered is not part of a checkpoint:
    a resumed run starts with an empty memory.
    """

    def __init__(self) -> None:
        self._losses: Tensor | None = None
        self._head: nn.Module | None = None

    def before_train(self, runner: Runner) -> None:
        """Listen to the decode head.

        Args:
            runner (Runner): The runner.

        Raises:
            ValueError: If nothing draws hard windows again, or the model has
                no decode head of MMSegmentation's kind.
        """
        sampler = runner.train_dataloader.sampler
        if not isinstance(sampler, WindowSampler) or not sampler.replay:
            raise ValueError(
                'HardWindowHook: no window would be replayed; set '
                "train_dataloader.sampler=dict(type='mmseg_uhr.WindowSampler',"
                ' replay=0.2), or leave the hook out'
            )
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        head = getattr(model, 'decode_head', None)
        # Of a cascade, the last one decides.
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        if not isinstance(head, BaseDecodeHead):
            raise ValueError(
                f'HardWindowHook: decode_head is {type(head).__name__}, not '
                'a BaseDecodeHead, whose logits could be seen; leave the '
                'hook out'
            )
        self._head = head
        head.loss_by_feat = self._listening(head.loss_by_feat)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Hand the losses of this iteration's windows to the sampler.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Not used.
            data_batch (dict, optional): With ``data_samples``.
            outputs (dict, optional): Not used.

        Raises:
            ValueError: If the decode head has shown no logits of windows.
        """
        if self._losses is None:
            raise ValueError(
                f'HardWindowHook: {type(self._head).__name__} does not give '
                'its loss_by_feat the logits (N, C, h, w) of the windows; '
                'leave the hook out'
            )
        losses, self._losses = self._losses.tolist(), None
        for sample, loss in zip(
            data_batch['data_samples'], losses, strict=True
        ):
            scene = sample.get('sample_idx')
            if isinstance(scene, WindowDraw) and math.isfinite(loss):
                runner.train_dataloader.sampler.remember(
                    scene, sample.window, loss
                )

    def after_train(self, runner: Runner) -> None:
        """Leave the decode head as it was."""
        if self._head is not None:
            self._head.loss_by_feat = self._head.loss_by_feat.listened_to
            self._head = None

    def _listening(self, loss_by_feat: Callable) -> Callable:
        """Wrap a head's method so that its logits are seen."""

        def listening(
            logits: Tensor, samples: Sequence[SegDataSample], *args, **kwargs
        ) -> dict:
            if isinstance(logits, Tensor) and logits.ndim == 4:
                self._losses = window_losses(
                    logits, samples, self._head.ignore_index
                )
            return loss_by_feat(logits, samples, *args, **kwargs)

        listening.listened_to = loss_by_feat
        return listening


@torch.no_grad()
def window_losses(
    logits: Tensor, samples: Sequence[SegDataSample], ignore_index: int
) -> Tensor:
    """Return the mean cross-entropy of each window.

    Args:
        logits (Tensor): Shape (N, C, h, w); one channel is a foreground.
        samples (Sequence[SegDataSample]): N, with ``gt_sem_seg`` of one size.
        ignore_index (int): Label of pixels that do not count.

    Returns:
        Tensor: Shape (N,), float32; NaN where all pixels are ignored.
    """
    labels = torch.stack([sample.gt_sem_seg.data for sample in samples])
    labels = F.interpolate(labels.float(), logits.shape[2:])[:, 0].long()
    logits = logits.float()
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    losses = F.cross_entropy(
        logits, labels, ignore_index=ignore_index, reduction='none'
    )
    counted = (labels != ignore_index).flatten(1).sum(1)
    return losses.flatten(1).sum(1) / counted
