"""Laplacian pyramid: the high-pass residuals of an image."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS

_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


class LaplacianPyramid(nn.Module):
    """High-pass levels of the Burt-Adelson pyramid, binomial 5x5 kernel.

    ``H_l = x_l - up(down(x_l))`` and ``x_{l+1} = down(x_l)``: ``down`` blurs
    and keeps every second pixel, ``up`` inserts zeros and blurs with four
    times the kernel; borders are reflected. The low-pass rest is not used.
    This is the residual that ISDNet (CVPR 2022) feeds its shallow network.

    The kernel is a buffer outside the state dict, so that the layer follows
    its module to any device and adds no key to a checkpoint.

    Args:
        num_levels (int): Number of high-pass levels.
    """

    def __init__(self, num_levels: int = 2):
        super().__init__()
        if num_levels < 1:
            raise ValueError(
                f'num_levels is {num_levels}; a Laplacian pyramid needs at '
                'least one level'
            )
        self.num_levels = num_levels
        row = torch.tensor(_BINOMIAL) / sum(_BINOMIAL)
        self.register_buffer(
            'kernel', torch.outer(row, row)[None, None], persistent=False
        )

    def _blur(self, x: Tensor, gain: float, stride: int) -> Tensor:
        """Convolve every channel with ``gain`` times the kernel."""
        channels = x.shape[1]
        kernel = (self.kernel * gain).to(x.dtype).expand(channels, -1, -1, -1)
        x = F.pad(x, (2, 2, 2, 2), mode='reflect')
        return F.conv2d(x, kernel, stride=stride, groups=channels)

    def _up(self, x: Tensor, size: torch.Size) -> Tensor:
        """Double the size, then cut to ``size`` (odd sizes lose a line)."""
        n, c, h, w = x.shape
        sparse = x.new_zeros(n, c, 2 * h, 2 * w)
        sparse[:, :, ::2, ::2] = x
        return self._blur(sparse, 4.0, 1)[:, :, : size[0], : size[1]]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Split off the high-pass levels.

        Args:
            x (Tensor): Images (N, C, H, W) with sides of at least
                ``3 * 2 ** (num_levels - 1)`` pixels.

        Returns:
            list[Tensor]: ``num_levels`` maps, the first (N, C, H, W), each
            next one half as wide and high (rounded up).
        """
        levels = []
        for _ in range(self.num_levels):
            low = self._blur(x, 1.0, 2)
            levels.append(x - self._up(low, x.shape[2:]))
            x = low
        return levels


@MODELS.register_module()
class LaplacianInput(BaseModule):
    """Make the input of a shallow network from high-pass residuals.

    The levels are brought to full size (bilinear) and stacked along the
    channels. ``LaplacianInput()`` is ISDNet's six-channel input (levels 0 and
    1); ``LaplacianInput(num_levels=1, keep_image=True)`` is the image and its
    finest residual.

    Args:
        num_levels (int): Number of high-pass levels.
        keep_image (bool): Whether the image itself comes first.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        num_levels: int = 2,
        keep_image: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.pyramid = LaplacianPyramid(num_levels)
        self.keep_image = keep_image

    def forward(self, x: Tensor) -> Tensor:
        """Stack the residuals.

        Args:
            x (Tensor): Images (N, C, H, W).

        Returns:
            Tensor: (N, C * (num_levels + keep_image), H, W).
        """
        maps = [x] if self.keep_image else []
        for level in self.pyramid(x):
            if level.shape[2:] != x.shape[2:]:
                level = F.interpolate(
                    level,
                    size=x.shape[2:],
                    mode='bilinear',
                    align_corners=False,
                )
            maps.append(level)
        return torch.cat(maps, dim=1)
