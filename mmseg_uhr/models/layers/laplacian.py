"""Laplacian pyramid: the high-pass residuals of an image."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from .memory_format import fast_format

_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


class LaplacianPyramid(nn.Module):
    """High-pass levels of the Burt-Adelson pyramid, binomial 5x5 kernel.

    ``H_l = x_l - up(down(x_l))`` and ``x_{l+1} = down(x_l)``: ``down`` blurs
    and keeps every second pixel, ``up`` inserts zeros and blurs with four
    times the kernel; borders are reflected. The low-pass rest is not used.
    This is the residual that ISDNet (CVPR 2022) feeds its shallow network.

    ``up`` is evaluated by its four phases on the small map: three of four
    pixels of the enlarged one are zeros.

    The kernels are buffers outside the state dict, so that the layer follows
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
        # Taps of the doubled kernel that meet samples, not inserted zeros,
        # at even and at odd positions.
        even, odd = row[::2] * 2, torch.cat((row.new_zeros(1), row[1::2] * 2))
        phases = [torch.outer(a, b) for a in (even, odd) for b in (even, odd)]
        self.register_buffer(
            'phases', torch.stack(phases)[:, None], persistent=False
        )

    def _down(self, x: Tensor) -> Tensor:
        """Blur and keep every second pixel."""
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, -1, -1, -1)
        x = F.pad(x, (2, 2, 2, 2), mode='reflect')
        return F.conv2d(x, kernel, stride=2, groups=channels)

    def _up(self, x: Tensor, size: torch.Size) -> Tensor:
        """Double the size, then cut to ``size`` (odd sizes lose a line)."""
        channels = x.shape[1]
        phases = self.phases.to(x.dtype).repeat(channels, 1, 1, 1)
        # Reflecting the map with its zeros, as the definition has it, repeats
        # the second sample on one side and the last one on the other.
        x = F.pad(x, (1, 0, 1, 0), mode='reflect')
        x = F.pad(x, (0, 1, 0, 1), mode='replicate')
        x = F.pixel_shuffle(F.conv2d(x, phases, groups=channels), 2)
        return x[:, :, : size[0], : size[1]]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Split off the high-pass levels.

        Args:
            x (Tensor): Images (N, C, H, W) with sides of at least
                ``2 ** num_levels + 1`` pixels.

        Returns:
            list[Tensor]: ``num_levels`` maps, the first (N, C, H, W), each
            next one half as wide and high (rounded up).

        Raises:
            ValueError: If the images are smaller.
        """
        least = 2**self.num_levels + 1
        if min(x.shape[2:]) < least:
            raise ValueError(
                f'an image of {x.shape[2]} x {x.shape[3]} pixels has no '
                f'{self.num_levels} Laplacian levels; expected sides of at '
                f'least {least} pixels'
            )
        levels = []
        for _ in range(self.num_levels):
            low = self._down(x)
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

    Attributes:
        reach (int): Rows above and below that a row of the output depends
            on.
        multiple (int): A part of the image gives the same rows as the whole
            if its first row and the image's height are multiples of this.
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
        # In rows of the coarsest level: one for resizing, four for the
        # difference of two blurred levels; the rest for getting there.
        self.reach = 7 * 2 ** (num_levels - 1) - 1
        self.multiple = max(2**num_levels, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Stack the residuals.

        Args:
            x (Tensor): Images (N, C, H, W).

        Returns:
            Tensor: (N, C * (num_levels + keep_image), H, W).
        """
        levels = [x] if self.keep_image else []
        levels += self.pyramid(x)
        n, channels, height, width = x.shape
        # Filled level by level: together they are the largest map of a model.
        stack = torch.empty(
            (n, channels * len(levels), height, width),
            dtype=x.dtype,
            device=x.device,
            memory_format=fast_format(x),
        )
        for part in stack.split(channels, dim=1):
            level = levels.pop(0)
            if level.shape[2:] != x.shape[2:]:
                level = F.interpolate(
                    level,
                    size=x.shape[2:],
                    mode='bilinear',
                    align_corners=False,
                )
            part.copy_(level)
        return stack
