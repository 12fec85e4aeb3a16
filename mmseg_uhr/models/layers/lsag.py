"""Local structure aligned grafting (LSAG)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from .conventions import BATCH_NORM, RELU


def upsample(coarse: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of ``coarse`` (N, C, h, w) to ``size``."""
    return F.interpolate(
        coarse, size=size, mode='bilinear', align_corners=False
    )


def warp(
    coarse: Tensor, offset: Tensor, top: int = 0, height: int | None = None
) -> Tensor:
    """Sample a coarse map at the positions of a finer grid plus offsets.

    Zero offsets give exactly bilinear up-sampling; positions outside take the
    border value.

    Args:
        coarse (Tensor): (N, G * c, h, w), G groups of c channels.
        offset (Tensor): (N, 2 * G, H, W), pairs ``(dx, dy)`` of every group,
            in coarse pixels.
        top (int): Row of the finer grid that the first row is.
        height (int, optional): Rows of the finer grid; by default there are
            no others.

    Returns:
        Tensor: (N, G * c, H, W) with the dtype of ``coarse``.
    """
    n, channels, h, w = coarse.shape
    groups, (rows, width) = offset.shape[1] // 2, offset.shape[2:]
    height = rows if height is None else height
    # Half precision resolves a normalised coordinate of a 300-pixel map to
    # 0.1 pixel only, hence float32 also under autocast.
    offset = offset.float().unflatten(1, (groups, 2))
    x = torch.arange(width, device=offset.device, dtype=torch.float32)
    y = torch.arange(rows, device=offset.device, dtype=torch.float32) + top
    x = (2 * x + 1) / width - 1 + 2 / w * offset[:, :, 0]
    y = (2 * y[:, None] + 1) / height - 1 + 2 / h * offset[:, :, 1]
    out = F.grid_sample(
        coarse.float().reshape(n * groups, channels // groups, h, w),
        torch.stack((x, y), dim=-1).flatten(0, 1),
        mode='bilinear',
        padding_mode='border',
        align_corners=False,
    )
    return out.reshape(n, channels, rows, width).to(coarse.dtype)


class FlowAlign(nn.Module):
    """Up-sample a coarse map along a learnt flow, per group of channels.

    The flow is predicted from both maps and starts at zero, i.e. as bilinear
    up-sampling.

    Args:
        channels (int): Channels of both maps.
        num_groups (int): Groups of channels that share a flow.
        norm_cfg (dict): Norm of the convolution before the flow.
        act_cfg (dict): Activation of the convolution before the flow.

    Raises:
        ValueError: If the channels cannot be split into the groups.
    """

    def __init__(
        self, channels: int, num_groups: int, norm_cfg: dict, act_cfg: dict
    ):
        super().__init__()
        if channels % num_groups:
            raise ValueError(
                f'LSAG channels={channels} cannot be split into '
                f'num_groups={num_groups}'
            )
        self.mix = ConvModule(
            2 * channels, channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        self.offset = nn.Conv2d(channels, 2 * num_groups, 3, padding=1)
        self.init_weights()

    def init_weights(self) -> None:
        """Start without a flow."""
        self.mix.init_weights()
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Align.

        Args:
            coarse (Tensor): (N, C, h, w).
            fine (Tensor): (N, C, H, W).

        Returns:
            Tensor: ``coarse`` on the fine grid, (N, C, H, W).
        """
        both = torch.cat((fine, upsample(coarse, fine.shape[2:])), dim=1)
        return warp(coarse, self.offset(self.mix(both)))


class WindowAlign(nn.Module):
    """Let each fine position attend to 3x3 coarse cells around its own.

    A coarse map that is not half as large as the fine one is first resized to
    it, so that every coarse cell has 2x2 children. The nine neighbours are
    visited one after the other on shifted views of the padded map: no
    unfolded copy is made, neither in training nor at test time.

    Args:
        channels (int): Channels of both maps.
        key_channels (int): Width of queries and keys.
    """

    def __init__(self, channels: int, key_channels: int = 32):
        super().__init__()
        self.query = nn.Conv2d(channels, key_channels, 1)
        self.key = nn.Conv2d(channels, key_channels, 1)
        self.scale = key_channels**-0.5

    @staticmethod
    def _neighbours(x: Tensor) -> list[Tensor]:
        """Nine views (N, C, h, 1, w, 1), each moved by one of 3x3 steps."""
        h, w = x.shape[2:]
        x = F.pad(x, (1, 1, 1, 1), mode='replicate')
        return [
            x[:, :, dy : dy + h, None, dx : dx + w, None]
            for dy in range(3)
            for dx in range(3)
        ]

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Align.

        Args:
            coarse (Tensor): (N, C, h, w).
            fine (Tensor): (N, C, H, W).

        Returns:
            Tensor: ``coarse`` on the fine grid, (N, C, H, W).
        """
        height, width = fine.shape[2:]
        h, w = (height + 1) // 2, (width + 1) // 2
        if coarse.shape[2:] != (h, w):
            coarse = upsample(coarse, (h, w))
        query = self.query(fine) * self.scale
        query = F.pad(query, (0, 2 * w - width, 0, 2 * h - height))
        query = query.reshape(*query.shape[:2], h, 2, w, 2)
        scores = torch.stack(
            [
                (query * key).sum(dim=1)
                for key in self._neighbours(self.key(coarse))
            ]
        )
        weights = scores.softmax(dim=0).to(coarse.dtype)
        out = 0
        for weight, value in zip(weights, self._neighbours(coarse)):
            out = out + weight[:, None] * value
        out = out.flatten(4, 5).flatten(2, 3)
        return out[:, :, :height, :width]


class BilinearAlign(nn.Module):
    """Plain bilinear up-sampling, the control of the other two."""

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Bring ``coarse`` (N, C, h, w) to the grid of ``fine``."""
        return upsample(coarse, fine.shape[2:])


@MODELS.register_module()
class LSAG(BaseModule):
    """Graft a shallow map onto a coarse semantic map, borders aligned.

    The coarse map is brought to the grid of the shallow map in a way that the
    shallow map decides; a gate then chooses, per position and channel, how
    much of the shallow map is added.

    Only the name and the purpose are known from HGN's abstract (Liu et al.,
    IEEE TMM 27, 2025); the layers are this project's reading of it.

    Args:
        coarse_channels (int): Channels of the coarse map.
        shallow_channels (int): Channels of the shallow map.
        channels (int): Channels of the result.
        align (str): ``'flow'`` (learnt offsets), ``'window'`` (attention to
            3x3 coarse cells) or ``'bilinear'``.
        num_groups (int): Channel groups with an own flow; only of
            ``align='flow'``.
        norm_cfg (dict): Norm of the convolutions.
        act_cfg (dict): Activation of the convolutions.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If ``align`` is unknown or ``num_groups`` does not divide
            ``channels``.
    """

    def __init__(
        self,
        coarse_channels: int,
        shallow_channels: int,
        channels: int = 128,
        align: str = 'flow',
        num_groups: int = 4,
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        conv = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.project_shallow = ConvModule(
            shallow_channels, channels, 1, **conv
        )
        self.project_coarse = ConvModule(coarse_channels, channels, 1, **conv)
        if align == 'flow':
            self.align = FlowAlign(channels, num_groups, **conv)
        elif align == 'window':
            self.align = WindowAlign(channels)
        elif align == 'bilinear':
            self.align = BilinearAlign()
        else:
            raise ValueError(
                f'LSAG align={align!r} is unknown; choose one of '
                "('flow', 'window', 'bilinear')"
            )
        self.gate = nn.Conv2d(2 * channels, channels, 1)
        self.fuse = ConvModule(channels, channels, 3, padding=1, **conv)

    def forward(self, coarse: Tensor, shallow: Tensor) -> Tensor:
        """Graft.

        Args:
            coarse (Tensor): (N, coarse_channels, h, w).
            shallow (Tensor): (N, shallow_channels, H, W), the finer grid.

        Returns:
            Tensor: (N, channels, H, W).
        """
        shallow = self.project_shallow(shallow)
        aligned = self.align(self.project_coarse(coarse), shallow)
        gate = self.gate(torch.cat((aligned, shallow), dim=1)).sigmoid()
        return self.fuse(aligned + gate * shallow)
