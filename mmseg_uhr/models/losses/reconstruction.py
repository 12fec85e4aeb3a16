"""Loss of a reconstructed image."""

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ...registry import MODELS


@MODELS.register_module()
class ReconstructionLoss(nn.Module):
    """Mean squared difference of an image and its reconstruction.

    The reconstruction is resized (bilinear) to the size of the target, as
    ISDNet (CVPR 2022) does with its super-resolution branch.

    Args:
        loss_weight (float): Weight of the loss.
        loss_name (str): Key of the loss; holds 'loss' to be optimised.
    """

    def __init__(
        self, loss_weight: float = 0.1, loss_name: str = 'loss_recon'
    ):
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Compare two images.

        Args:
            image (Tensor): Reconstruction (N, C, h, w).
            target (Tensor): (N, C, H, W).

        Returns:
            Tensor: Weighted scalar.
        """
        if image.shape[2:] != target.shape[2:]:
            image = F.interpolate(
                image,
                size=target.shape[2:],
                mode='bilinear',
                align_corners=False,
            )
        return F.mse_loss(image.float(), target.float()) * self.loss_weight
