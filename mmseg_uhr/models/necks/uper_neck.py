"""UPerNet's feature pyramid as a neck."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.models.decode_heads.uper_head import UPerHead
from torch import Tensor

from ...registry import MODELS
from ..layers.conventions import BATCH_NORM, RELU, check_batch
from ..layers.upsampled_conv import conv3x3_upsampled


@MODELS.register_module()
class UPerNeck(BaseModule):
    """Merge the deep maps into one as UPerNet does; hand the others on.

    Stock ``UPerHead`` without its classifier, its layers and state-dict keys
    below ``uper.``. Its last convolution reads all levels at the size of the
    finest; here each level is convolved on its own grid and the results are
    added, so that the concatenation of all levels never exists. Same result
    up to the order of sums, in training as well.

    Args:
        in_channels (Sequence[int]): Channels of the deep maps, fine to
            coarse.
        start (int): Index of the first deep map among the inputs.
        keep (Sequence[int]): Deep maps that are handed on besides the merged
            one, e.g. to an auxiliary head, counted from the finest, 0.
        channels (int): Channels of the merged map.
        pool_scales (Sequence[int]): Cells per side of the pooled maps.
        norm_cfg (dict): Norm config.
        act_cfg (dict): Activation config.
        init_cfg (dict, optional): Initialization config.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (96, 192, 384, 768),
        start: int = 0,
        keep: Sequence[int] = (),
        channels: int = 512,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.in_channels = tuple(in_channels)
        self.start = start
        self.keep = tuple(keep)
        self.uper = UPerHead(
            pool_scales=tuple(pool_scales),
            in_channels=list(in_channels),
            in_index=list(range(len(self.in_channels))),
            channels=channels,
            # Stock insists on a classifier, which is dropped at once.
            num_classes=2,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            align_corners=False,
            init_cfg=None,
        )
        del self.uper.conv_seg

    def _pyramid(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Levels of the feature pyramid of deep maps, fine to coarse."""
        uper = self.uper
        level = uper.psp_forward(maps)
        levels = [level]
        pairs = zip(
            uper.lateral_convs[::-1], uper.fpn_convs[::-1], maps[-2::-1]
        )
        for lateral, smooth, x in pairs:
            level = lateral(x) + F.interpolate(
                level,
                size=x.shape[2:],
                mode='bilinear',
                align_corners=False,
            )
            levels.insert(0, smooth(level))
        return levels

    def _merge(self, levels: list[Tensor]) -> Tensor:
        """Convolve the levels (N, channels, h_i, w_i) as if concatenated."""
        merge = self.uper.fpn_bottleneck
        finest, *coarse = levels
        first, *others = merge.conv.weight.chunk(len(levels), dim=1)
        out = F.conv2d(finest, first, padding=1)
        for level, weight in zip(coarse, others):
            out += conv3x3_upsampled(level, weight, finest.shape[2:])
        return merge.activate(merge.norm(out))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Merge.

        Args:
            inputs (Sequence[Tensor]): Maps of the encoder, among them the
                deep maps (N, in_channels[i], h_i, w_i) from ``start`` on.

        Returns:
            tuple[Tensor, ...]: What comes before the deep maps, the deep maps
            of ``keep``, the merged map (N, channels, h_0, w_0), what comes
            after the deep maps.

        Raises:
            ValueError: If there are fewer deep maps than ``in_channels``, or
                one image is to give batch statistics.
        """
        end = self.start + len(self.in_channels)
        deep = inputs[self.start : end]
        if len(deep) < len(self.in_channels):
            raise ValueError(
                f'UPerNeck start={self.start}, in_channels='
                f'{self.in_channels} needs {end} maps, the encoder returns '
                f'{len(inputs)}; check out_indices of its networks'
            )
        check_batch('UPerNeck', deep[-1][:, :, :1, :1], self.uper.psp_modules)
        merged = self._merge(self._pyramid(deep))
        return (
            *inputs[: self.start],
            *(deep[i] for i in self.keep),
            merged,
            *inputs[end:],
        )
