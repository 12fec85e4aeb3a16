"""EfficientViT for dense maps."""

from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ..layers.conventions import BATCH_NORM
from ..layers.linear_attention import MultiScaleLinearAttention
from ..layers.memory_format import fast_format
from ..layers.stem import repeat_pretrained_stem
from ..layers.stripes import halo_of, in_stripes, stripes_wanted

_HARD_SWISH = dict(type='HSwish')
# Stages before the first one with attention.
_PLAIN_STAGES = 2
# Rows of a map that are made at a time while predicting.
_STRIPE = 64
# Rows that a row at 1/4 depends on, above and below, at full resolution: two
# strides and the depthwise convolution between them.
_ENTRY_REACH = 5


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise 3x3, project.

    Without gradients the expanded maps, which are ``expand`` times as wide as
    the input, exist for a few rows at a time.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        stride (int): Stride of the depthwise convolution.
        expand (int): Ratio of the expanded to the input channels.
        norm_cfg (dict): Norm config.
        fewer_norm (bool): Give the first two convolutions a bias in place of
            a norm.
        residual (bool): Add the input to the output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expand: int,
        norm_cfg: dict,
        fewer_norm: bool = False,
        residual: bool = True,
    ):
        super().__init__()
        middle = in_channels * expand
        inner = dict(
            norm_cfg=None if fewer_norm else norm_cfg, act_cfg=_HARD_SWISH
        )
        self.stride = stride
        self.residual = residual
        self.expand = ConvModule(in_channels, middle, 1, **inner)
        self.depthwise = ConvModule(
            middle,
            middle,
            3,
            stride=stride,
            padding=1,
            groups=middle,
            **inner,
        )
        self.project = ConvModule(
            middle, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None
        )

    def _convs(self, x: Tensor) -> Tensor:
        """The three convolutions."""
        return self.project(self.depthwise(self.expand(x)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / s, W / s)."""
        if stripes_wanted(self):
            out = in_stripes(self._convs, x, self.stride, self.stride, _STRIPE)
        else:
            out = self._convs(x)
        # In place: no gradient of a projection needs its result.
        return out.add_(x) if self.residual else out


class AttentionBlock(nn.Module):
    """Context by linear attention, then detail by an inverted bottleneck.

    Args:
        channels (int): Channels.
        dim (int): Channels of an attention head.
        expand (int): Expansion of the bottleneck.
        norm_cfg (dict): Norm config.
    """

    def __init__(self, channels: int, dim: int, expand: int, norm_cfg: dict):
        super().__init__()
        self.attention = MultiScaleLinearAttention(channels, dim, norm_cfg)
        self.mbconv = MBConv(
            channels, channels, 1, expand, norm_cfg, fewer_norm=True
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same shape."""
        return self.mbconv(self.attention(x).add_(x))


class Stem(nn.Module):
    """Halve the input, then one separable residual block.

    Args:
        in_channels (int): Input channels.
        channels (int): Output channels.
        norm_cfg (dict): Norm config.
    """

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict):
        super().__init__()
        self.conv = ConvModule(
            in_channels,
            channels,
            3,
            stride=2,
            padding=1,
            norm_cfg=norm_cfg,
            act_cfg=_HARD_SWISH,
        )
        self.depthwise = ConvModule(
            channels,
            channels,
            3,
            padding=1,
            groups=channels,
            norm_cfg=norm_cfg,
            act_cfg=_HARD_SWISH,
        )
        self.pointwise = ConvModule(
            channels, channels, 1, norm_cfg=norm_cfg, act_cfg=None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / 2, W / 2)."""
        x = self.conv(x)
        return self.pointwise(self.depthwise(x)).add_(x)


@MODELS.register_module()
class EfficientViT(BaseModule):
    """Convolutional stages, then stages with linear attention.

    H. Cai et al.: *EfficientViT: Multi-Scale Linear Attention for
    High-Resolution Dense Prediction.* ICCV 2023. The defaults are B2 without
    its last stage, the trunk of HLRC (RA-L 2025). The first two stages are
    inverted bottlenecks, every further one begins with a bottleneck that
    halves the map and goes on with attention blocks.

    ``tools/model_converters/efficientvit.py`` makes ImageNet weights of the
    authors loadable by ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Args:
        in_channels (int): Input channels.
        widths (Sequence[int]): Channels of the stem (1/2) and of each stage
            (1/4, 1/8, ...).
        depths (Sequence[int]): Inverted bottlenecks of the first two stages,
            attention blocks of the others.
        expand (int): Expansion of the inverted bottlenecks.
        dim (int): Channels of an attention head.
        out_indices (Sequence[int]): Stages whose maps are returned; 0 is the
            one at 1/4.
        input_layer (dict, optional): Config of a layer that makes the input
            from the window, such as ``dict(type='mmseg_uhr.LaplacianInput')``
            with ``in_channels=6``, see :class:`ShallowSTDC`. By default the
            network reads the window itself.
        norm_cfg (dict): Norm config.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If widths and depths differ in number or ``out_indices``
            names a stage that is not there.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (24, 48, 96, 192),
        depths: Sequence[int] = (3, 4, 4),
        expand: int = 4,
        dim: int = 32,
        out_indices: Sequence[int] = (1, 2),
        input_layer: dict | None = None,
        norm_cfg: dict = BATCH_NORM,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        num_stages = len(depths)
        if not num_stages or len(widths) != num_stages + 1:
            raise ValueError(
                f'EfficientViT widths={tuple(widths)} and '
                f'depths={tuple(depths)} do not match; give a width for the '
                'stem, and a width and a depth for each stage'
            )
        if not set(out_indices) <= set(range(num_stages)):
            raise ValueError(
                f'EfficientViT out_indices={tuple(out_indices)}: there are '
                f'{num_stages} stages, 0 to {num_stages - 1}'
            )
        self.out_indices = tuple(out_indices)
        self.stem = Stem(in_channels, widths[0], norm_cfg)
        self.stages = nn.ModuleList()
        for i in range(num_stages):
            narrow, wide, depth = widths[i], widths[i + 1], depths[i]
            plain = i < _PLAIN_STAGES
            blocks = [
                MBConv(
                    narrow,
                    wide,
                    2,
                    expand,
                    norm_cfg,
                    fewer_norm=not plain,
                    residual=False,
                )
            ]
            if plain:
                blocks += [
                    MBConv(wide, wide, 1, expand, norm_cfg)
                    for _ in range(depth - 1)
                ]
            else:
                blocks += [
                    AttentionBlock(wide, dim, expand, norm_cfg)
                    for _ in range(depth)
                ]
            self.stages.append(nn.Sequential(*blocks))
        self.input_layer = (
            None if input_layer is None else MODELS.build(input_layer)
        )
        self._halo, self._multiple = halo_of(self.input_layer, _ENTRY_REACH)
        repeat_pretrained_stem(self, 'stem.conv.conv.weight')

    def _entry(self, x: Tensor) -> Tensor:
        """Make the first map at 1/4 of a window (N, C, H, W)."""
        if self.input_layer is not None:
            x = self.input_layer(x)
        x = self.stem(x.contiguous(memory_format=fast_format(x)))
        return self.stages[0][0](x)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x (Tensor): Windows (N, C, H, W); C is ``in_channels`` without an
                input layer.

        Returns:
            tuple[Tensor, ...]: The maps of ``out_indices``, fine to coarse.
        """
        striped = self._halo is not None and x.shape[2] % self._multiple == 0
        if striped and stripes_wanted(self):
            x = in_stripes(self._entry, x, 4, self._halo, 2 * _STRIPE)
        else:
            x = self._entry(x)
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage[1:](x) if i == 0 else stage(x)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)
