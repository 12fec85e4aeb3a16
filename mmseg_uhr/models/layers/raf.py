"""Relation-aware fusion of a shallow and a deep map."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from .conventions import BATCH_NORM, RELU, check_batch


@MODELS.register_module()
class RelationAwareFusion(BaseModule):
    """Weigh the channels of two maps by their relation, then add the maps.

    The global means of both maps become rows of two matrices, whose product
    tells which groups of channels of one belong to which of the other; from
    it a small network corrects the channel weights of either map (RAF,
    ISDNet, CVPR 2022, Sec. 3.3). The correction starts at zero.

    The deep map is enlarged between its weights and a 3x3 convolution; there
    is no spatial alignment.

    Args:
        shallow_channels (int): Channels of the shallow map.
        channels (int): Channels of the deep map and of all results.
        groups (int): Rows of the matrices; must divide ``channels``.
        norm_cfg (dict): Norm config.
        pool_norm_cfg (dict, optional): Norm config of the global means, see
            :class:`~mmseg_uhr.models.necks.ASPPNeck`. Defaults to
            ``norm_cfg``.
        act_cfg (dict): Activation config.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If ``groups`` does not divide ``channels``.
    """

    def __init__(
        self,
        shallow_channels: int,
        channels: int = 128,
        groups: int = 16,
        norm_cfg: dict = BATCH_NORM,
        pool_norm_cfg: dict | None = None,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if channels % groups:
            raise ValueError(
                f'RelationAwareFusion channels={channels} cannot be divided '
                f'into groups={groups}; choose a divisor'
            )
        self.groups = groups
        conv = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.shallow_conv = ConvModule(
            shallow_channels, channels, 3, padding=1, **conv
        )
        self.deep_conv = ConvModule(channels, channels, 3, padding=1, **conv)
        weight = dict(norm_cfg=pool_norm_cfg or norm_cfg, act_cfg=None)
        self.shallow_weight = ConvModule(channels, channels, 1, **weight)
        self.deep_weight = ConvModule(channels, channels, 1, **weight)
        self.shallow_relation = self._relation(channels)
        self.deep_relation = self._relation(channels)
        self.shallow_gain = nn.Parameter(torch.zeros(1))
        self.deep_gain = nn.Parameter(torch.zeros(1))
        self.enlarged_conv = ConvModule(
            channels, channels, 3, padding=1, **conv
        )
        self.sum_conv = ConvModule(
            channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None
        )

    def _relation(self, channels: int) -> nn.Sequential:
        """Network from the relation of groups to a channel correction."""
        return nn.Sequential(
            nn.Linear(self.groups**2, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
        )

    def _weights(self, shallow: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channel weights of both maps, (N, C, 1, 1)."""
        means = []
        for x, conv in (
            (shallow, self.shallow_weight),
            (deep, self.deep_weight),
        ):
            pooled = F.adaptive_avg_pool2d(x, 1)
            check_batch(type(self).__name__, pooled, conv)
            means.append(conv(pooled).flatten(1))
        rows = [mean.unflatten(1, (self.groups, -1)) for mean in means]
        relation = (rows[0] @ rows[1].transpose(1, 2)).flatten(1)
        weights = []
        for mean, gain, network in zip(
            means,
            (self.shallow_gain, self.deep_gain),
            (self.shallow_relation, self.deep_relation),
        ):
            weight = (mean + gain * network(relation)).sigmoid()
            weights.append(weight[:, :, None, None])
        return weights[0], weights[1]

    def forward(self, shallow: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            shallow (Tensor): (N, shallow_channels, H, W).
            deep (Tensor): (N, channels, h, w).

        Returns:
            tuple[Tensor, Tensor]: The fused map, and the enlarged deep map
            that went into it, both (N, channels, H, W).
        """
        shallow = self.shallow_conv(shallow)
        deep = self.deep_conv(deep)
        shallow_weight, deep_weight = self._weights(shallow, deep)
        deep = self.enlarged_conv(
            F.interpolate(
                deep * deep_weight,
                size=shallow.shape[2:],
                mode='bilinear',
                align_corners=False,
            )
        )
        fused = torch.addcmul(deep, shallow, shallow_weight)
        return self.sum_conv(fused), deep
