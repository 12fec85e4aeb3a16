"""Neck of the Hierarchical Grafting Network."""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.decode_heads.psp_head import PPM
from torch import Tensor

from ...registry import MODELS
from ..layers.conventions import BATCH_NORM, RELU


@MODELS.register_module()
class HGNNeck(BaseModule):
    """Merge the deep maps into one; hand the shallow maps on.

    A pyramid pooling module widens the view of the deepest map; a bilinear
    feature pyramid then brings it to the grid of the first deep map. The
    pooled maps have no norm: a 1x1 map of a one-image batch has no batch
    statistics.

    Args:
        in_channels (Sequence[int]): Channels of the deep maps, which are the
            last ``len(in_channels)`` inputs, fine to coarse.
        channels (int): Channels of the merged map.
        pool_scales (Sequence[int]): Cells per side of the pooled maps.
        norm_cfg (dict): Norm config.
        act_cfg (dict): Activation config.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (128, 256, 512),
        channels: int = 128,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.in_channels = tuple(in_channels)
        conv = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        *lateral_channels, deepest = in_channels
        pooled = channels // len(pool_scales)
        self.ppm = PPM(
            pool_scales,
            deepest,
            pooled,
            conv_cfg=None,
            norm_cfg=None,
            act_cfg=act_cfg,
            align_corners=False,
        )
        self.bottleneck = ConvModule(
            deepest + pooled * len(pool_scales),
            channels,
            3,
            padding=1,
            **conv,
        )
        self.laterals = nn.ModuleList(
            ConvModule(c, channels, 1, **conv) for c in lateral_channels
        )
        self.fuse = ConvModule(channels, channels, 3, padding=1, **conv)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Merge.

        Args:
            inputs (Sequence[Tensor]): Shallow maps, then deep maps
                (N, in_channels[i], h_i, w_i), fine to coarse.

        Returns:
            tuple[Tensor, ...]: The shallow maps and the merged map
            (N, channels, h_0, w_0).
        """
        split = len(inputs) - len(self.in_channels)
        if split < 0:
            raise ValueError(
                f'HGNNeck in_channels={self.in_channels} expects '
                f'{len(self.in_channels)} deep maps, the encoder returns '
                f'{len(inputs)} maps in all; check out_indices of the deep '
                'network'
            )
        *laterals, deepest = inputs[split:]
        merged = self.bottleneck(torch.cat((deepest, *self.ppm(deepest)), 1))
        for conv, lateral in zip(self.laterals[::-1], laterals[::-1]):
            merged = conv(lateral) + F.interpolate(
                merged,
                size=lateral.shape[2:],
                mode='bilinear',
                align_corners=False,
            )
        return (*inputs[:split], self.fuse(merged))
