"""Contexts in front of a feature pyramid."""

from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ..layers.context_fusion import EncodedContext
from ..layers.conventions import BATCH_NORM, RELU


@MODELS.register_module()
class ContextNeck(BaseModule):
    """Enhance the deepest map of a window by contexts, then go on.

    FCtL's fusion for encoders of today: the deepest maps of the window and of
    its contexts are reduced by one convolution, the fusion adds contexts to
    the window, and another neck, usually stock ``FPN``, takes the window's
    maps from there.

    Args:
        in_channels (Sequence[int]): Channels of the window's maps, from fine
            to coarse.
        channels (int): Channels to which the deepest ones are reduced.
        fusion (dict, optional): Config of a
            :class:`~mmseg_uhr.models.layers.ContextFusion`; its channels are
            set here. None: no contexts.
        neck (dict): Config of the neck that follows; its ``in_channels`` are
            set here.
        hand_on (bool): Whether the reduced contexts, and then the window if
            the encoder returns it, follow the maps of that neck, for heads
            that need them.
        norm_cfg (dict): Norm of the reduction.
        act_cfg (dict): Activation of the reduction.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        neck: dict,
        fusion: dict | None = None,
        hand_on: bool = False,
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.num_maps = len(in_channels)
        self.hand_on = hand_on
        self.reduce = ConvModule(
            in_channels[-1],
            channels,
            1,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        self.fusion: nn.Module | None = None
        if fusion is not None:
            self.fusion = MODELS.build(dict(fusion, channels=channels))
        widths = [*in_channels[:-1], channels]
        self.neck = MODELS.build(dict(neck, in_channels=widths))

    def forward(
        self, inputs: Sequence[Tensor | EncodedContext]
    ) -> tuple[Tensor | EncodedContext, ...]:
        """Fuse.

        Args:
            inputs (Sequence[Tensor | EncodedContext]): Maps of windows (N, C,
                h, w) from fine to coarse, then contexts, then optionally the
                window itself.

        Returns:
            tuple[Tensor | EncodedContext, ...]: What the neck makes of the
            window's maps, then, with ``hand_on``, contexts and window.
        """
        *maps, deepest = inputs[: self.num_maps]
        deepest = self.reduce(deepest)
        contexts, others = [], []
        for x in inputs[self.num_maps :]:
            if not isinstance(x, EncodedContext):
                others.append(x)
            elif self.fusion is not None or self.hand_on:
                features = self.reduce(x.features)
                contexts.append(x._replace(features=features))
        if self.fusion is not None:
            deepest = self.fusion(deepest, contexts)
        pyramid = tuple(self.neck((*maps, deepest)))
        return (*pyramid, *contexts, *others) if self.hand_on else pyramid
