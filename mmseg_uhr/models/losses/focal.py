"""Focal loss of the soft-max."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ...registry import MODELS

_EPS = 1e-7


@MODELS.register_module()
class SoftmaxFocalLoss(nn.Module):
    """Cross-entropy that cares less about pixels that are right already.

    The mean of ``-(1 - p)^gamma log p``, p being the probability of a pixel's
    class, kept within 1e-7 of 0 and 1 (FCtL, ICCV 2021, gamma = 3). Stock's
    ``FocalLoss`` has a sigmoid per class and needs compiled operators.

    Args:
        gamma (float): 0 gives the cross-entropy.
        avg_non_ignore (bool): Whether ignored pixels leave the mean; else
            they count as zero.
        loss_weight (float): Weight of the loss.
        loss_name (str): Key of the loss; holds 'loss' to be optimised.
    """

    def __init__(
        self,
        gamma: float = 3.0,
        avg_non_ignore: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_focal',
    ):
        super().__init__()
        self.gamma = gamma
        self.avg_non_ignore = avg_non_ignore
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        ignore_index: int | None = 255,
        **kwargs,
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred (Tensor): Logits (N, C, H, W).
            target (Tensor): Class ids (N, H, W), ``int64``.
            weight (Tensor, optional): Of pixels, (N, H, W).
            ignore_index (int, optional): Class id of ignored pixels.
            **kwargs: Not used; what heads hand to all losses.

        Returns:
            Tensor: Weighted scalar.
        """
        with torch.autocast(pred.device.type, enabled=False):
            ignored = -100 if ignore_index is None else ignore_index
            surprise = F.cross_entropy(
                pred.float(), target, reduction='none', ignore_index=ignored
            )
            p = (-surprise).exp().clamp(_EPS, 1 - _EPS)
            # Ignored pixels have no surprise, but p is not quite 1.
            valid = target != ignored
            loss = -((1 - p) ** self.gamma) * p.log() * valid
            if weight is not None:
                loss = loss * weight
            count = valid.sum().clamp(min=1)
            if not self.avg_non_ignore:
                count = loss.numel()
            return self.loss_weight * loss.sum() / count
