"""Field-enriched local context (FELC)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor


class FieldEnrichedContext(nn.Module):
    """Three receptive fields, one for each third of the channels.

    FELC of HLRC (RA-L 2025): 1x1 convolution, depthwise 3x3, 5x5 and 7x7 on
    a third of the channels each, norm, GELU twice, 1x1 convolution. The
    second GELU is one of the authors' network, their weights need it.

    Args:
        channels (int): Input and output channels, a multiple of 3.
        norm_cfg (dict): Norm config.

    Raises:
        ValueError: If the channels cannot be split in three.
    """

    def __init__(self, channels: int, norm_cfg: dict):
        super().__init__()
        if channels % 3:
            raise ValueError(
                f'a map of {channels} channels cannot be split into three '
                'receptive fields; choose widths that are multiples of 3'
            )
        third = channels // 3
        self.project_in = nn.Conv2d(channels, channels, 1)
        self.fields = nn.ModuleList(
            nn.Conv2d(third, third, size, padding=size // 2, groups=third)
            for size in (3, 5, 7)
        )
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.project_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same shape."""
        thirds = self.project_in(x).chunk(3, dim=1)
        x = torch.cat(
            [field(third) for field, third in zip(self.fields, thirds)], dim=1
        )
        return self.project_out(F.gelu(F.gelu(self.norm(x))))
