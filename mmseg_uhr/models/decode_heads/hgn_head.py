"""Decode head of the Hierarchical Grafting Network."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import ModuleList
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from ...registry import MODELS


@MODELS.register_module()
class HGNHead(BaseDecodeHead):
    """Carry the deep semantics to the shallow grids, then classify.

    The coarse map is grafted with the shallow maps one after the other,
    coarse to fine (1/16, then 1/8).

    Args:
        in_channels (Sequence[int]): Channels of the shallow maps, fine to
            coarse, and of the coarse map.
        channels (int): Width of the classifier.
        graft (dict): Config of the grafts without their numbers of channels,
            e.g. ``dict(type='mmseg_uhr.LSAG', align='flow')``.
        align_channels (Sequence[int]): Width of the grafts, in the order of
            the shallow maps. ``(64, 128)`` makes the lighter head.
        **kwargs: Arguments of stock ``BaseDecodeHead``. ``in_index`` names
            the maps of ``in_channels``.

    Raises:
        ValueError: If ``align_channels`` does not name every shallow map.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 128),
        channels: int = 64,
        *,
        graft: dict,
        align_channels: Sequence[int] = (128, 128),
        in_index: Sequence[int] = (0, 1, 2),
        **kwargs,
    ):
        super().__init__(
            in_channels,
            channels,
            in_index=in_index,
            input_transform='multiple_select',
            **kwargs,
        )
        *shallow_channels, coarse = in_channels
        if len(align_channels) != len(shallow_channels):
            raise ValueError(
                f'HGNHead align_channels={tuple(align_channels)} needs one '
                f'entry for each of the {len(shallow_channels)} shallow maps '
                f'of in_channels={tuple(in_channels)}'
            )
        self.grafts = ModuleList()
        for shallow, width in zip(
            reversed(shallow_channels), reversed(align_channels)
        ):
            self.grafts.append(
                MODELS.build(
                    dict(
                        dict(norm_cfg=self.norm_cfg, act_cfg=self.act_cfg),
                        **graft,
                        coarse_channels=coarse,
                        shallow_channels=shallow,
                        channels=width,
                    )
                )
            )
            coarse = width
        self.classifier = ConvModule(
            coarse,
            self.channels,
            3,
            padding=1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode.

        Args:
            inputs (Sequence[Tensor]): Outputs of the neck.

        Returns:
            Tensor: Logits (N, out_channels, H / 8, W / 8).
        """
        *shallows, x = self._transform_inputs(inputs)
        for graft, shallow in zip(self.grafts, reversed(shallows)):
            x = graft(x, shallow)
        return self.cls_seg(self.classifier(x))
