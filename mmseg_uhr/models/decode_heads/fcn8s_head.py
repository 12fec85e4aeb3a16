"""Decoder of FCN-8s."""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import SampleList
from torch import Tensor

from ...registry import MODELS

# Where the window begins in each map, for windows padded by 100 pixels: in
# the fourth and third pooling, and in the enlarged logits.
_BEGIN_POOL4, _BEGIN_POOL3, _BEGIN_LOGITS = 5, 9, 31
# Scales of the skips, as the authors of FCN trained all layers at once.
_SCALE_POOL4, _SCALE_POOL3 = 0.01, 0.0001
# Layers of torchvision's VGG-16 classifier that become convolutions.
_TORCHVISION = {'classifier.0': 'conv6', 'classifier.3': 'conv7'}


def bilinear_kernel(channels: int, size: int) -> Tensor:
    """Return the kernel of a transposed convolution that enlarges.

    Args:
        channels (int): Each is enlarged by itself.
        size (int): Side of the kernel, even; the stride is half of it.

    Returns:
        Tensor: (channels, channels, size, size).
    """
    factor = (size + 1) // 2
    ramp = 1 - (torch.arange(size) - (factor - 0.5)).abs() / factor
    kernel = torch.zeros(channels, channels, size, size)
    kernel[range(channels), range(channels)] = torch.outer(ramp, ramp)
    return kernel


@MODELS.register_module()
class FCN8sHead(BaseDecodeHead):
    """FCN-8s (CVPR 2015) on :class:`~mmseg_uhr.models.backbones.VGGFCN`.

    Optionally the deepest map is enhanced by contexts first (FCtL, ICCV
    2021); the skips stay local. The three enlargements are bilinear and
    fixed, but part of the checkpoint.

    Weights of torchvision's VGG-16 may be loaded into ``conv6`` and ``conv7``
    as they are: ``init_cfg=dict(type='Pretrained',
    checkpoint='torchvision://vgg16')``.

    Args:
        in_channels (Sequence[int]): Channels after pooling 3, 4 and 5.
        channels (int): Width of the two big convolutions.
        in_index (Sequence[int]): Indices of the maps of ``in_channels``. All
            maps that follow are contexts.
        fusion (dict, optional): Config of what enhances the last map.
        dropout_ratio (float): Dropout of single values after both big
            convolutions.
        init_cfg (dict, optional): Initialization config.
        **kwargs: Arguments of stock ``BaseDecodeHead``.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 512),
        channels: int = 4096,
        *,
        in_index: Sequence[int] = (0, 1, 2),
        fusion: dict | None = None,
        dropout_ratio: float = 0.5,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ):
        super().__init__(
            in_channels,
            channels,
            in_index=in_index,
            input_transform='multiple_select',
            dropout_ratio=0,
            init_cfg=init_cfg,
            **kwargs,
        )
        pool3, pool4, pool5 = in_channels
        self.fusion = None if fusion is None else MODELS.build(fusion)
        self.conv6 = nn.Conv2d(pool5, self.channels, 7)
        self.conv7 = nn.Conv2d(self.channels, self.channels, 1)
        # Of values, where stock drops channels.
        self.dropout = nn.Dropout(dropout_ratio)
        self.skip4 = nn.Conv2d(pool4, self.out_channels, 1)
        self.skip3 = nn.Conv2d(pool3, self.out_channels, 1)
        for name, size in (('up5', 4), ('up4', 4), ('up3', 16)):
            kernel = bilinear_kernel(self.out_channels, size)
            self.register_buffer(name, kernel)
        self._register_load_state_dict_pre_hook(_rename_torchvision)

    def enhance(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the deepest map, enhanced by contexts if there are any."""
        deepest = inputs[self.in_index[-1]]
        if self.fusion is None:
            return deepest
        return self.fusion(deepest, inputs[self.in_index[-1] + 1 :])

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode.

        Args:
            inputs (Sequence[Tensor]): Maps of the window, then contexts.

        Returns:
            Tensor: Logits (N, out_channels, h, w) at full resolution; they
            begin at the window's first pixel and end beyond its last one,
            which :meth:`predict_by_feat` and :meth:`loss_by_feat` cut off.
        """
        pool3, pool4, _ = self._transform_inputs(inputs)
        # Of maps with channels last, the CPU would copy a 400 MB kernel.
        x = self.enhance(inputs).contiguous()
        x = self.dropout(F.relu_(self.conv6(x)))
        x = self.cls_seg(F.relu_(self.conv7(x)))
        x = F.conv_transpose2d(x, self.up5, stride=2)
        skip = self.skip4(_SCALE_POOL4 * pool4)
        x = x + _from(skip, _BEGIN_POOL4, x.shape[2:])
        x = F.conv_transpose2d(x, self.up4, stride=2)
        skip = self.skip3(_SCALE_POOL3 * pool3)
        x = x + _from(skip, _BEGIN_POOL3, x.shape[2:])
        x = F.conv_transpose2d(x, self.up3, stride=8)
        return x[:, :, _BEGIN_LOGITS:, _BEGIN_LOGITS:]

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Compute the losses of logits that may reach beyond the labels."""
        size = batch_data_samples[0].gt_sem_seg.shape
        return super().loss_by_feat(
            _from(seg_logits, 0, size), batch_data_samples
        )

    def predict_by_feat(
        self, seg_logits: Tensor, batch_img_metas: list[dict]
    ) -> Tensor:
        """Cut logits to the window, (N, out_channels, H, W)."""
        meta = batch_img_metas[0]
        size = meta['img_shape']
        # Stock's rule: windows of slide mode carry no padding.
        if not isinstance(size, torch.Size) and 'pad_shape' in meta:
            size = meta['pad_shape']
        return _from(seg_logits, 0, size[:2])


def _from(x: Tensor, begin: int, size: Sequence[int]) -> Tensor:
    """Cut (h, w) rows and columns from the given one on."""
    h, w = size
    return x[:, :, begin : begin + h, begin : begin + w]


def _rename_torchvision(state: dict, prefix: str, *_) -> None:
    """Turn torchvision's fully connected layers into ours, in place."""
    for old, new in _TORCHVISION.items():
        for leaf in ('weight', 'bias'):
            value = state.pop(f'{prefix}{old}.{leaf}', None)
            if value is None:
                continue
            if leaf == 'weight':
                # The first one saw 7 x 7 positions of 512 channels.
                side = 7 if new == 'conv6' else 1
                value = value.reshape(len(value), -1, side, side)
            state[f'{prefix}{new}.{leaf}'] = value
