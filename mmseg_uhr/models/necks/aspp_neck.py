"""Atrous spatial pyramid pooling as a neck."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.decode_heads.aspp_head import ASPPModule
from torch import Tensor

from ...registry import MODELS
from ..layers.conventions import BATCH_NORM, RELU, check_batch


@MODELS.register_module()
class ASPPNeck(BaseModule):
    """DeepLabV3's pyramid pooling of one deep map; hands all others on.

    What stock ``ASPPHead`` makes before it classifies, for models whose
    decoder goes on from there. The pooled map follows the map that it was
    made of.

    Args:
        in_channels (int): Channels of the deep map.
        channels (int): Channels of each branch.
        dilations (Sequence[int]): Dilations of the branches, 1 for a 1x1
            convolution.
        index (int): Index of the deep map among the inputs.
        bottleneck (bool): Whether a 3x3 convolution merges the branches into
            ``channels`` channels. Without it they are stacked, first the
            global mean, then in the order of ``dilations``.
        norm_cfg (dict): Norm config.
        pool_norm_cfg (dict, optional): Norm config of the global mean, of
            which batch norm has no statistics with one image per process;
            ``dict(type='GN', num_groups=32)`` can train with one. Defaults
            to ``norm_cfg``, as in the stock head.
        act_cfg (dict): Activation config.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        in_channels: int = 512,
        channels: int = 128,
        dilations: Sequence[int] = (1, 12, 24, 36),
        index: int = 3,
        bottleneck: bool = True,
        norm_cfg: dict = BATCH_NORM,
        pool_norm_cfg: dict | None = None,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        conv = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.index = index
        self.image_pool = ConvModule(
            in_channels,
            channels,
            1,
            norm_cfg=pool_norm_cfg or norm_cfg,
            act_cfg=act_cfg,
        )
        self.branches = ASPPModule(
            dilations, in_channels, channels, conv_cfg=None, **conv
        )
        self.bottleneck = (
            ConvModule(
                (len(dilations) + 1) * channels, channels, 3, padding=1, **conv
            )
            if bottleneck
            else None
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pool.

        Args:
            inputs (Sequence[Tensor]): Maps; that at ``index`` is
                (N, in_channels, h, w).

        Returns:
            tuple[Tensor, ...]: The inputs, and behind that at ``index`` the
            pooled map (N, channels, h, w), or (N, branches * channels, h, w)
            without the bottleneck.

        Raises:
            ValueError: While training with one image per process, when batch
                norm has no statistics of the global mean.
        """
        x = inputs[self.index]
        pooled = F.adaptive_avg_pool2d(x, 1)
        check_batch(type(self).__name__, pooled, self.image_pool)
        # Resizing one pixel is repeating it.
        pooled = self.image_pool(pooled).expand(-1, -1, *x.shape[2:])
        merged = torch.cat((pooled, *self.branches(x)), dim=1)
        if self.bottleneck is not None:
            merged = self.bottleneck(merged)
        split = self.index + 1
        return (*inputs[:split], merged, *inputs[split:])
