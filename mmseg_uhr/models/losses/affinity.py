"""Feature-affinity loss."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ...registry import MODELS

_EPS = 1e-6


@MODELS.register_module()
class FeatureAffinityLoss(nn.Module):
    """Let positions of two maps resemble each other in the same way.

    Mean absolute difference of the two matrices of products between all
    positions (ISDNet, CVPR 2022, as released). The second map is the target:
    its gradient is stopped, and it is resized to the grid of the first.

    Args:
        normalize (str): What is scaled to unit length first. ``'channel'``,
            each channel over all positions, is what the released ISDNet,
            SGHRQ and HLRC do; ``'position'`` scales each position over its
            channels, so that the products are cosines, as the papers write.
        loss_weight (float): Weight of the loss.
        loss_name (str): Key of the loss; holds 'loss' to be optimised.

    Raises:
        ValueError: If ``normalize`` is something else.
    """

    def __init__(
        self,
        normalize: str = 'channel',
        loss_weight: float = 1.0,
        loss_name: str = 'loss_affinity',
    ):
        super().__init__()
        if normalize not in ('channel', 'position'):
            raise ValueError(
                f"normalize={normalize!r}: expected 'channel' or 'position'"
            )
        self.normalize = normalize
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def _affinity(self, x: Tensor) -> Tensor:
        """Products between all positions of a map: (N, hw, hw)."""
        x = x.flatten(2)
        axis = 2 if self.normalize == 'channel' else 1
        x = x / (x.norm(dim=axis, keepdim=True) + _EPS)
        return x.transpose(1, 2) @ x

    def forward(self, feature: Tensor, target: Tensor) -> Tensor:
        """Compare two maps.

        Args:
            feature (Tensor): (N, C, h, w).
            target (Tensor): (N, D, H, W).

        Returns:
            Tensor: Weighted scalar.
        """
        # Sums over all positions: float32, whatever the forward runs in.
        with torch.autocast(feature.device.type, enabled=False):
            with torch.no_grad():
                target = F.interpolate(
                    target.float(),
                    size=feature.shape[2:],
                    mode='bilinear',
                    align_corners=False,
                )
                target = self._affinity(target)
            loss = F.l1_loss(self._affinity(feature.float()), target)
        return loss * self.loss_weight
