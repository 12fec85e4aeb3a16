"""Load-balancing loss of a mixture of experts."""

import torch.nn as nn
from torch import Tensor

from ...registry import MODELS

_EPS = 1e-10


@MODELS.register_module()
class LoadBalanceLoss(nn.Module):
    """Keep a router from sending all tokens to the same experts.

    The squared coefficient of variation of the experts' importance, which is
    the sum of their probabilities over the tokens of a process: ``var(m) /
    mean(m)^2`` with the unbiased variance (HLRC, RA-L 2025).

    Args:
        loss_weight (float): Weight of the loss.
        loss_name (str): Key of the loss; holds 'loss' to be optimised.
    """

    def __init__(
        self, loss_weight: float = 0.01, loss_name: str = 'loss_balance'
    ):
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, probabilities: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            probabilities (Tensor): Of all experts for each token, (T, E).

        Returns:
            Tensor: Weighted scalar.
        """
        importance = probabilities.sum(dim=0)
        variation = importance.var() / (importance.mean() ** 2 + _EPS)
        return variation * self.loss_weight
