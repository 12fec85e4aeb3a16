"""Neck of the integrated shallow-deep network."""

from collections.abc import Sequence

import torch.nn as nn
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from ...registry import MODELS
from ..layers.conventions import BATCH_NORM, RELU
from ..layers.raf import RelationAwareFusion
from .aspp_neck import ASPPNeck


@MODELS.register_module()
class ISDNeck(BaseModule):
    """Fuse the deep context into the shallow maps, coarse to fine.

    Pyramid pooling of the deepest map, then relation-aware fusion with the
    shallow map at 1/16 and with that at 1/8 (ISDNet, CVPR 2022, Sec. 3). What
    follows are stock FCN heads: one on the fused map predicts, the others
    only train.

    Args:
        shallow_channels (Sequence[int]): Channels of the shallow maps, fine
            to coarse; they are the first inputs.
        deep_channels (int): Channels of the deepest map.
        channels (int): Channels of the context and of the fused maps.
        dilations (Sequence[int]): See :class:`ASPPNeck`.
        index (int): Index of the deepest map among the inputs.
        groups (int): See :class:`RelationAwareFusion`.
        dropout_ratio (float): Share of channels of the fused map that are
            dropped while training; the paper drops in front of the head's
            convolution.
        norm_cfg (dict): Norm config.
        pool_norm_cfg (dict, optional): Norm config of all global means, see
            :class:`ASPPNeck`. Defaults to ``norm_cfg``.
        act_cfg (dict): Activation config.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        shallow_channels: Sequence[int] = (256, 512),
        deep_channels: int = 512,
        channels: int = 128,
        dilations: Sequence[int] = (1, 12, 24, 36),
        index: int = 3,
        groups: int = 16,
        dropout_ratio: float = 0.1,
        norm_cfg: dict = BATCH_NORM,
        pool_norm_cfg: dict | None = None,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        conv = dict(
            norm_cfg=norm_cfg, pool_norm_cfg=pool_norm_cfg, act_cfg=act_cfg
        )
        self.context = ASPPNeck(
            deep_channels, channels, dilations, index, **conv
        )
        self.fusions = ModuleList(
            RelationAwareFusion(shallow, channels, groups, **conv)
            for shallow in shallow_channels
        )
        self.dropout = nn.Dropout2d(dropout_ratio)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse.

        Args:
            inputs (Sequence[Tensor]): Shallow maps, then others.

        Returns:
            tuple[Tensor, ...]: The fused map (N, channels, H / 8, W / 8); the
            enlarged deep maps of the fusions, fine to coarse; the context
            (N, channels, h, w); and the inputs that are not shallow maps.
        """
        inputs = self.context(inputs)
        count = len(self.fusions)
        context = inputs[self.context.index + 1]
        fused, enlarged = context, []
        for fuse, shallow in zip(self.fusions[::-1], inputs[:count][::-1]):
            fused, deep = fuse(shallow, fused)
            enlarged.insert(0, deep)
        others = [x for x in inputs[count:] if x is not context]
        return (self.dropout(fused), *enlarged, context, *others)
